"""What every route that begins a run does alike: say who asks, and answer with events."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import TypedDict, TypeVar

from fastapi import Request

from app.api.native_events import NativeFrames
from app.api.ratelimit import ratelimit_headers
from app.api.services import Services
from app.api.sse import Encoder, EventStream, StreamTimes
from app.core.errors import InvalidRequest
from app.core.principal import Principal
from app.core.run_events import RunEvent
from app.core.run_json import LoggedEvent
from app.orchestration.engine import Run
from app.orchestration.runs.hosted import OnDisconnect

T = TypeVar("T")
DEADLINE = "x-quorum-deadline-ms"
_LONGEST_MS = 3_600_000


class Asked(TypedDict):
    """The members of a `RunRequest` that do not come from its body."""

    tenant: str
    key_id: str
    key_name: str
    request_id: str
    traceparent: str | None
    deadline: float | None


def asked(request: Request, principal: Principal) -> Asked:
    """Who asks, and until when.

    Raises:
        InvalidRequest: the deadline is none.
    """
    return {
        "tenant": principal.tenant,
        "key_id": principal.key_id,
        "key_name": principal.name,
        "request_id": request.scope["request_id"],
        "traceparent": request.scope["traceparent"],
        "deadline": _deadline(request.headers.get(DEADLINE)),
    }


def _deadline(header: str | None) -> float | None:
    if header is None:
        return None
    if not re.fullmatch(r"[0-9]{1,7}", header) or not 0 < int(header) <= _LONGEST_MS:
        message = f"X-Quorum-Deadline-Ms is {header[:20]!r}; it wants whole milliseconds from 1 to {_LONGEST_MS}"
        raise InvalidRequest(message, param="X-Quorum-Deadline-Ms")
    return time.monotonic() + int(header) / 1000


def run_headers(run: Run) -> dict[str, str]:
    """What every answer says of its run: its id, and how its caller's limits stand."""
    headers = {"x-quorum-run-id": run.id}
    return headers if run.permit is None else headers | ratelimit_headers(run.permit.quotas)


def streamed(request: Request, services: Services, run: Run, encoder: Encoder[RunEvent]) -> EventStream[RunEvent]:
    """The run's events as they happen. It ends when its reader leaves."""
    return _stream(request, services, run, run.events(), encoder)


async def hosted(request: Request, services: Services, run: Run, on_disconnect: OnDisconnect) -> EventStream[LoggedEvent]:
    """The events of a run that goes on for a while, or to its end, when its reader leaves."""
    begun = await services.host.begin(run, on_disconnect=on_disconnect)
    events = services.runs.events(run.request.tenant, run.id, 0, begun)
    return _stream(request, services, run, events, NativeFrames())


def _stream(request: Request, services: Services, run: Run, events: AsyncIterator[T], encoder: Encoder[T]) -> EventStream[T]:
    settings = services.settings
    return EventStream(
        events,
        encoder,
        request_id=request.scope["request_id"],
        times=StreamTimes(settings.keep_alive_s, settings.stalled_s),
        headers=run_headers(run),
    )
