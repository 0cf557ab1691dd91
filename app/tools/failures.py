"""How a tool fails, in one place: every error that a tool may raise is made here."""

from __future__ import annotations

from app.core.errors import InvalidRequest, ToolExecutionError


class BadArguments(ValueError):
    """What a python function raises where the arguments fit its schema and are wrong all the same; says what is."""


def refused(tool: str, what: str) -> InvalidRequest:
    """The tool says that its arguments are wrong."""
    return InvalidRequest(f"arguments: {what} (tool {tool!r})", param="arguments")


def failed(tool: str, what: str) -> ToolExecutionError:
    """It ran, and did not succeed."""
    return ToolExecutionError(f"the tool {tool!r} failed: {what}", tool=tool)


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
