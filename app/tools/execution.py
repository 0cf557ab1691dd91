"""One call of a tool: arguments and permission are checked, it runs in time, and its result is checked and bounded.

prepared = await toolbox.prepare("weather@1", arguments, caller)     # raises what was wrong with the call
prepared.decision                                                    # allow, or approve: a person must agree first
result = await toolbox.run(prepared)                                 # never raises: what failed is in result.error
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from app.core.clock import Clock
from app.core.errors import DeadlineExceeded, Forbidden, InvalidRequest, QuorumError, ToolExecutionError, report
from app.core.streams import in_time
from app.core.tools import PermissionDecision, Priced, ToolCaller, ToolResult, ToolSpec
from app.observability.counting import tool_ended
from app.tools.describing import deprecation_warning
from app.tools.failures import broke, timed_out, unavailable, wrong_output
from app.tools.registry import Registered
from app.tools.results import safe

APPROVAL_NEEDED: Final = "approval_needed"


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call that may be made, at once where `decision.effect` is `allow`, after an approval where it is `approve`."""

    registered: Registered
    arguments: dict[str, Any]
    caller: ToolCaller
    decision: PermissionDecision

    @property
    def spec(self) -> ToolSpec:
        return self.registered.spec


def checked(registered: Registered, arguments: Any, most_bytes: int) -> dict[str, Any]:
    """`arguments`, which fit the tool.

    Raises:
        InvalidRequest: they do not; names the member at fault as `arguments.<path>`.
    """
    name = registered.spec.name
    if not isinstance(arguments, dict):
        raise InvalidRequest(f"arguments: the tool {name!r} takes a JSON object", param="arguments")
    try:
        size = len(orjson.dumps(arguments))
        fault = registered.input.first_fault(arguments)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest("arguments: nest too deep, or are no JSON", param="arguments") from None
    if size > most_bytes:
        raise InvalidRequest(f"arguments: have {size} bytes; {most_bytes} are the most", param="arguments")
    if fault is not None:
        where = ".".join(("arguments", *map(str, fault.path)))
        raise InvalidRequest(f"{where}: {fault.message} (tool {registered.spec.reference!r})", param=where)
    return arguments  # pyright: ignore[reportUnknownVariableType]


def permitted(decision: PermissionDecision) -> None:
    """Nothing where a call may be made or approved.

    Raises:
        Forbidden: no rule allows it, or one denies it.
    """
    if decision.effect == "deny":
        raise Forbidden(decision.reason, param="name", code="tool_forbidden")


def approved(decision: PermissionDecision) -> None:
    """Nothing where a call may be made at once.

    Raises:
        Forbidden: a person must agree first.
    """
    if decision.effect == "approve":
        raise Forbidden(f"{decision.reason}; it cannot be run without one", param="name", code=APPROVAL_NEEDED)


async def run(prepared: PreparedCall, clock: Clock) -> ToolResult:
    """Make the call. What fails is in the result; only a cancellation is raised."""
    spec = prepared.spec
    started_at, started = clock.now(), clock.monotonic()
    value, text, truncated, error, cost_usd = None, "", False, None, spec.cost_usd
    try:
        raw = await _answer(prepared, clock)
        if isinstance(raw, Priced):
            cost_usd, raw = cost_usd + raw.cost_usd, raw.value
        kept = _kept(prepared.registered, raw)
        value, text, truncated = kept.value, kept.text, kept.truncated
    except QuorumError as refusal:
        error = report(refusal)
    seconds = clock.monotonic() - started
    tool_ended(spec.name, "ok" if error is None else error.code, seconds)
    warning = deprecation_warning(spec)
    result = ToolResult(
        tool=spec.name,
        version=str(spec.version),
        value=value,
        text=text if error is None else error.message,
        error=error,
        truncated=truncated,
        started_at=started_at,
        latency_ms=seconds * 1000,
        cost_usd=cost_usd,
        warnings=() if warning is None else (warning,),
    )
    return replace(result, cost_usd=0.0) if result.untried else result


async def _answer(prepared: PreparedCall, clock: Clock) -> Any:
    spec, caller = prepared.spec, prepared.caller
    tool = prepared.registered.tool
    if tool.unavailable is not None:
        raise unavailable(spec.name, tool.unavailable, retry_after=1.0)
    seconds = spec.timeout_s
    if caller.deadline is not None:
        left = caller.deadline - clock.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"no time was left to call the tool {spec.name!r}")
        seconds = min(seconds, left)
    try:
        return await in_time(tool.run(prepared.arguments, caller), seconds, lambda: timed_out(spec.name, seconds))
    except QuorumError:
        raise
    except Exception as error:  # the boundary: a tool that breaks must not break who called it
        raise broke(spec.name, error) from error


def _kept(registered: Registered, raw: Any) -> Any:
    spec = registered.spec
    if registered.output is not None:
        try:
            fault = registered.output.fault(raw)
        except (TypeError, ValueError, RecursionError):
            raise wrong_output(spec.name, "it nests too deep") from None
        if fault is not None:
            raise wrong_output(spec.name, fault)
    try:
        return safe(raw, spec.max_result_bytes)
    except (TypeError, ValueError, RecursionError) as error:
        raise wrong_output(spec.name, f"it cannot be read: {type(error).__name__}") from None


def raised(result: ToolResult) -> ToolResult:
    """`result`, where the call succeeded.

    Raises:
        ToolExecutionError: it failed.
    """
    error = result.error
    if error is None:
        return result
    failure = ToolExecutionError(error.message, tool=result.tool, retry_after=error.retry_after)
    failure.code = error.code
    failure.param = error.param
    raise failure


def arguments_of(text: str) -> Mapping[str, Any]:
    """The arguments that a model wrote as JSON text; none for an empty one.

    Raises:
        InvalidRequest: it is no JSON object.
    """
    if not text.strip():
        return {}
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"arguments: are no JSON: {error}", param="arguments") from None
    if not isinstance(arguments, dict):
        raise InvalidRequest("arguments: must be a JSON object", param="arguments")
    return arguments  # pyright: ignore[reportUnknownVariableType]
