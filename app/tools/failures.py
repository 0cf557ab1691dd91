"""How a tool fails, in one place: every error that a tool may raise is made here."""

from __future__ import annotations

import traceback
from pathlib import PurePath
from typing import Final

import structlog

from app.core.errors import InvalidRequest, ToolExecutionError

MOST_SAID: Final = 2_000
"""Characters of what a function says of its failure."""


class PublicError(Exception):
    """What a python function raises where what it says is for whoever called it, the model too: what went wrong, no secrets."""


class BadArguments(ValueError):
    """What a python function raises where the arguments fit its schema and are wrong all the same; says what is."""


def refused(tool: str, what: str) -> InvalidRequest:
    """The tool says that its arguments are wrong."""
    return InvalidRequest(f"arguments: {what[:MOST_SAID]} (tool {tool!r})", param="arguments")


def failed(tool: str, what: str, *, retry_after: float | None = None) -> ToolExecutionError:
    """It ran, and did not succeed; it may in `retry_after` seconds."""
    return ToolExecutionError(f"the tool {tool!r} failed: {what}", tool=tool, retry_after=retry_after)


def cut_off(tool: str, what: str) -> ToolExecutionError:
    """It was sent the call, and nobody knows what became of that."""
    return ToolExecutionError(f"the tool {tool!r} failed: {what}", tool=tool, failure="incomplete")


def broke(tool: str, error: Exception) -> ToolExecutionError:
    """It raised `error`. What that says is told to nobody and logged nowhere, since it may name hosts, paths and secrets; the
    log has where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None
    log = structlog.get_logger("quorum.tools")
    log.error("a tool raised an exception", tool=tool, error_type=type(error).__name__, where=where)
    return failed(tool, f"it raised {type(error).__name__}")


def timed_out(tool: str, seconds: float) -> ToolExecutionError:
    """It took longer than it may."""
    return ToolExecutionError(f"the tool {tool!r} did not answer within {seconds:g} s", tool=tool, code="tool_timeout")


def unavailable(tool: str, why: str, *, retry_after: float | None = None) -> ToolExecutionError:
    """It cannot be reached now. Nothing of the call was sent, or nobody knows what became of it; `why` says which."""
    message = f"the tool {tool!r} is not available: {why}"
    return ToolExecutionError(message, tool=tool, code="tool_unavailable", retry_after=retry_after)


def wrong_output(tool: str, what: str) -> ToolExecutionError:
    """What it gave does not fit its output schema."""
    return ToolExecutionError(
        f"the result of the tool {tool!r} is not what it promises: {what}", tool=tool, code="tool_output_invalid"
    )
