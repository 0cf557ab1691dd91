# `make` lists the targets. Everything goes into ./.venv; nothing else on the machine is touched.
# Settings: PYTHON=python3.12 (which Python), ARGS="--port 9000" (for run, mock and bench), TESTS="tests/core -k fold" (for test).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?=
ARGS ?=
TESTS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCKED := $(PIP) install --require-hashes --only-binary :all:
RUNTIME := $(VENV)/.runtime
TESTING := $(VENV)/.testing
CHECKING := $(VENV)/.checking

##@ Use it
.PHONY: run
run: setup  ## Start the service with its embedded store; with no keys set, on mock models
	@exec $(BIN)/quorum serve $(ARGS)

.PHONY: mock
mock: setup  ## Serve mock providers over HTTP, to point a configuration or a test at
	@exec $(BIN)/quorum mock $(ARGS)

##@ Work on it
.PHONY: setup
setup: $(RUNTIME)  ## Make ./.venv and install the locked dependencies and quorum itself
	@:

.PHONY: test
test: $(TESTING)  ## Run the tests: all at once on every core, then those that need the machine to themselves
	@code=0; alone=0; \
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not full and not alone" $(TESTS) || code=$$?; \
	$(BIN)/python -m pytest -m "alone and not full" $(TESTS) || alone=$$?; \
	exit $$((code != 0 ? code : (alone == 5 ? 0 : alone)))  # 5: there are none

.PHONY: test-full
test-full: $(TESTING)  ## Run the tests that take minutes
	@$(BIN)/python -m pytest -m full $(TESTS) || test $$? -eq 5

.PHONY: lint
lint: $(CHECKING)  ## Check the style and the format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: format
format: $(CHECKING)  ## Put the code into the format and repair what can be repaired
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: types
types: $(CHECKING)  ## Check the types of app/, strictly
	@$(BIN)/pyright

.PHONY: layers
layers: $(CHECKING)  ## Check that imports run one way
	@$(BIN)/lint-imports --no-logo

.PHONY: check
check: lint types layers openapi-check  ## All checks that are no tests

.PHONY: bench
bench: setup  ## Measure speed and memory against the floor of this machine
	@$(BIN)/python -m bench $(ARGS)

##@ Generated files
.PHONY: openapi
openapi: setup  ## Write openapi/: the HTTP contract and the schema of quorum.yaml
	@$(BIN)/python openapi/generate.py

.PHONY: openapi-check
openapi-check: setup  ## Fail if openapi/ differs from what the code says
	@$(BIN)/python openapi/generate.py --check

.PHONY: lock
lock: $(CHECKING)  ## Bring the lock files in line with pyproject.toml; UPGRADE=1 takes the newest versions
	@$(call compile_locks,.)

.PHONY: lock-check
lock-check: $(CHECKING)  ## Fail if pyproject.toml asks for what the lock files do not hold
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && cp requirements*.txt "$$fresh" && $(call compile_locks,$$fresh) && \
	for file in requirements*.txt; do diff -u "$$file" "$$fresh/$$file"; done || \
	{ echo "the lock files are out of date: run 'make lock' and commit them" >&2; exit 1; }

COMPILE := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
define compile_locks
$(COMPILE) pyproject.toml -o $(1)/requirements.txt && \
$(COMPILE) --group build -c $(1)/requirements.txt -o $(1)/requirements-build.txt && \
$(COMPILE) --group test -c $(1)/requirements.txt -o $(1)/requirements-dev.txt && \
$(COMPILE) --group check -c $(1)/requirements.txt -c $(1)/requirements-dev.txt -o $(1)/requirements-check.txt
endef

.PHONY: clean
clean:  ## Remove ./.venv and what tools leave behind; data of the service stays
	rm -rf $(VENV) tests/js/node_modules .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find app tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each is newer than what it was made from, so a second run does nothing and needs no network.
$(BIN)/python:
	@for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; done; \
	if [ -z "$${found:-}" ]; then echo "quorum needs Python 3.11 or newer, and $(or $(PYTHON),python3) is not: install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then echo "$$found has no venv module: install it (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; fi; \
	echo "making $(VENV) with $$("$$found" --version)"; "$$found" -m venv $(VENV)

$(RUNTIME): requirements.txt requirements-build.txt pyproject.toml | $(BIN)/python
	@echo "installing what quorum needs (once; about half a minute)"
	@$(LOCKED) -r requirements-build.txt -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(TESTING): requirements-dev.txt tests/js/package-lock.json $(RUNTIME)
	@echo "installing what the tests need (once)"
	@$(LOCKED) -r requirements-dev.txt
	@if command -v npm >/dev/null; then npm ci --prefix tests/js --silent || echo "npm failed: the tests of the JavaScript SDK will be skipped" >&2; fi
	@touch $@

$(CHECKING): requirements-check.txt $(RUNTIME)
	@echo "installing what the checks need (once)"
	@$(LOCKED) -r requirements-check.txt
	@touch $@

.PHONY: help
help:  ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
