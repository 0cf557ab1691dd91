"""Run events in our own dialect: `event:` the type, `id:` the number in the run, `data:` JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from app.core.run_events import CandidateDelta, OutputDelta, PlanMade, RunEvent, RunStarted


class NativeEncoder:
    """Encodes the events of one run, numbering them from 1."""

    dialect = "native"

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._seq = 0
        self._member = b'","run_id":"' + run_id.encode() + b'","seq":'

    def commits(self, event: RunEvent) -> bool:
        return not isinstance(event, (RunStarted, PlanMade))

    def encode(self, event: RunEvent) -> bytes:
        self._seq += 1
        kind, number = event.type.encode(), b"%d" % self._seq
        return b"".join(
            (
                b"event: ", kind, b"\nid: ", number,
                b'\ndata: {"type":"', kind, self._member, number,
                b",", orjson.dumps(payload(event), default=plain)[1:], b"\n\n",
            )
        )  # fmt: skip


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
            return {name: getattr(event, name) for name in event.__slots__}


def plain(value: Any) -> Any:
    """JSON for what orjson does not know."""
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    raise TypeError(f"{type(value).__name__} is not JSON")
