"""Logs are one JSON object a line."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from app.observability.logs import configure
configure({level!r}, {form!r})
log = structlog.get_logger("quorum.test")
log.debug("quiet")
with structlog.contextvars.bound_contextvars(request_id="req_1"):
    log.info("run ended", tokens=5, path=object)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("strategy failed")
import logging
logging.getLogger("library").info("chatter")
"""


def lines(level: str = "info", form: str | None = "json") -> list[str]:
    program = PROGRAM.format(level=level, form=form)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()


def test_each_line_is_an_object_with_its_time_level_and_context() -> None:
    ended, failed = map(json.loads, lines())
    assert (ended["event"], ended["level"], ended["request_id"], ended["tokens"]) == ("run ended", "info", "req_1", 5)
    assert ended["timestamp"].endswith("Z")
    assert failed["level"] == "error"
    assert "ZeroDivisionError" in failed["exception"]
    assert "request_id" not in failed


def test_less_is_logged_at_a_higher_level_and_more_at_a_lower() -> None:
    assert [json.loads(line)["event"] for line in lines("error")] == ["strategy failed"]
    assert json.loads(lines("debug")[0])["event"] == "quiet"


def test_the_console_form_is_for_people() -> None:
    first = lines(form="console")[0]
    assert "run ended" in first
    with pytest.raises(json.JSONDecodeError):
        json.loads(first)


def test_a_level_that_is_none_is_an_error() -> None:
    from app.observability.logs import configure

    with pytest.raises(KeyError):
        configure("loud")
    assert logging.getLogger().level
