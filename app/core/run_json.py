"""Run events as JSON: the very bytes that a reader of the native stream gets, live or from the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final, cast

import orjson

from app.core.errors import ErrorReport
from app.core.run_events import CandidateDelta, OutputDelta, RunEvent, RunFailed

ENDS: Final = frozenset({"run.finished", "run.failed"})
"""The types of which exactly one is a run's last event."""

RESYNC: Final = "resync"
"""The type of what a reader gets in place of events that are no longer kept: no event of the run, and not numbered by it."""

_INTEGERS: Final = range(-(2**63), 2**64)
"""What orjson writes as a number."""
_DEEPEST: Final = 200
"""How deep a value may lie; orjson writes 254 levels, and a result puts some around what a model has said."""
_TOO_DEEP: Final = "(nested too deeply)"


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event of a run as it stands in its log.

    `seq` counts from 1; `data` is its JSON. `event` is there where it has just happened, not where it was read from the log.
    """

    seq: int
    type: str
    data: bytes
    event: RunEvent | None = field(default=None, compare=False)

    @property
    def error(self) -> ErrorReport | None:
        """Of a `run.failed` that has just happened: for a stream that has not begun."""
        return self.event.error if isinstance(self.event, RunFailed) else None

    @property
    def ends(self) -> bool:
        return self.type in ENDS


def logged(event: RunEvent, run_id: str, seq: int) -> LoggedEvent:
    """`event` as the one with the number `seq` of its run."""
    data = event_json(event.type, run_id, seq, payload(event))
    return LoggedEvent(seq, event.type, data, event)


def event_json(kind: str, run_id: str, seq: int, members: Mapping[str, Any]) -> bytes:
    """The JSON of an event; `members` are those besides `type`, `run_id` and `seq`, at least one."""
    head, tail = event_parts(kind, run_id, members)
    return b"%b%d%b" % (head, seq, tail)


def event_parts(kind: str, run_id: str, members: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """What stands before and after the number in an event's JSON, where the number is not known yet."""
    head = f'{{"type":"{kind}","run_id":"{run_id}","seq":'.encode()
    return head, b"," + json_bytes(members)[1:]


def payload(event: RunEvent) -> dict[str, Any]:
    """The members of an event's JSON besides `type`, `run_id` and `seq`."""
    match event:
        case CandidateDelta():
            return {
                "candidate_id": event.candidate_id,
                "model": event.model,
                "choice": event.choice,
                "kind": event.kind,
                "text": event.text,
            }
        case OutputDelta():
            members: dict[str, Any] = {"choice": event.choice, "kind": event.kind, "text": event.text}
            if event.tool_call:
                members["tool_call"] = event.tool_call
            if event.logprobs:
                members["logprobs"] = event.logprobs
            return members
        case _:
            return {name: getattr(event, name) for name in event.__match_args__}


def json_bytes(value: Any) -> bytes:
    """`value` as JSON. What a model has said can be more than JSON carries: whole numbers beyond 64 bits are written as text,
    lone surrogates as U+FFFD, and what is nested beyond 200 levels is left out.

    Raises:
        TypeError: something in it has no JSON, as a set.
    """
    try:
        return orjson.dumps(value, default=plain)
    except TypeError:
        return orjson.dumps(_carried(value, 0))


def _carried(value: Any, depth: int) -> Any:
    """`value` with what orjson refuses put another way."""
    if depth > _DEEPEST:
        return _TOO_DEEP
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case bool() | float() | None:
            return value
        case int():
            return value if value in _INTEGERS else str(value)
        case Mapping():
            members = cast("Mapping[Any, Any]", value)
            return {_carried(str(name), depth): _carried(member, depth + 1) for name, member in members.items()}
        case list() | tuple():
            return [_carried(one, depth + 1) for one in cast("Sequence[Any]", value)]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {one.name: _carried(getattr(value, one.name), depth + 1) for one in fields(value)}
        case _:
            return value


def plain(value: Any) -> Any:
    """JSON for what orjson does not know."""
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    raise TypeError(f"{type(value).__name__} is not JSON")
