"""A start without configuration: the providers whose usual environment variables are set, else the mock ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from app.config.loading import NO_CHECKS, Checks, Loaded, load
from app.config.spec import LLMProvider, ModelConfig, QuorumSpec
from app.providers.mock.personas import DEFAULT_PERSONAS
from app.providers.vendors import ENVIRONMENT

MOCK = "mock"


def load_or_default(path: Path | None, environ: Mapping[str, str], *, checks: Checks = NO_CHECKS) -> Loaded:
    """The configuration at `path`; providers and models come from the environment where it has none, or is none.

    Raises:
        ConfigError: the file cannot be read or is wrong.
    """
    if path is None:
        return from_environment(environ)
    loaded = load(path, environ, checks=checks)
    if loaded.spec.providers or loaded.spec.models:
        return loaded
    found = from_environment(environ)
    update = {"providers": found.spec.providers, "models": found.spec.models}
    return replace(loaded, spec=loaded.spec.model_copy(update=update), notes=found.notes)


def from_environment(environ: Mapping[str, str]) -> Loaded:
    """The providers whose keys are in `environ`, with a strong and a cheap model each; the notes say which and why.

    A model has its own name as alias, or `provider/model` where the name has a slash or is taken.
    """
    providers: dict[str, LLMProvider] = {}
    models: dict[str, ModelConfig] = {}
    notes: list[str] = []
    for row in ENVIRONMENT:
        variable = next((name for name in row.variables if environ.get(name)), None)
        if variable is None:
            continue
        providers[row.name] = LLMProvider(kind=row.kind, vendor=row.vendor, api_key=SecretStr(environ[variable]))
        aliases: list[str] = []
        for model in row.models:
            alias = f"{row.name}/{model}" if "/" in model or model in models else model
            models[alias] = ModelConfig(provider=row.name, model=model)
            aliases.append(alias)
        notes.append(f"{variable} is set: provider {row.name!r} with {', '.join(aliases)}")
    if not providers:
        looked_for = ", ".join(row.variables[0] for row in ENVIRONMENT)
        providers[MOCK] = LLMProvider(kind="mock")
        models = {name: ModelConfig(provider=MOCK, model=name) for name in DEFAULT_PERSONAS}
        notes.append(f"no provider is configured and no key is set ({looked_for}): mock models answer, {', '.join(models)}")
    return Loaded(QuorumSpec(providers=providers, models=models), notes=tuple(notes))
