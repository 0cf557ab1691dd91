"""What is held for a store that is away has bounds, and what is refused meanwhile does not push out what was answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
import structlog.testing
from prometheus_client import REGISTRY

from app.api.idempotency.execution import Execution
from app.api.idempotency.late import Late
from app.api.idempotency.request import KeyedRequest
from app.core.clock import SystemClock
from app.core.errors import StateUnavailable
from app.core.principal import LOCAL
from app.state.idempotency import Begun, RequestId, Write


async def answered(number: int) -> Execution:
    """A request that has its answer."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    async def finish(_: Execution) -> None: ...

    request = KeyedRequest(RequestId("t", f"d{number}"), "f", "POST", "/", b"", (), b"", LOCAL, None)
    begun = Begun(f"op{number}", 1, f"run{number}", "")
    execution = Execution(request, begun, keep_s=60, most_bytes=1000, clock=SystemClock(), finish=finish, notify=lambda: None)
    execution.start(app, {})
    assert execution.task
    await execution.task
    return execution


def refused(number: int) -> Write:
    return Write(RequestId("t", f"r{number}"), f"refused{number}", 1, 60, end="drop")


class Store:
    """Notes what it is told, once it is back."""

    def __init__(self) -> None:
        self.away = True
        self.told: list[str] = []

    async def tell(self, execution: Execution) -> None:
        await self.write([execution.next_write(last=True)])

    async def write(self, writes: list[Write]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StateUnavailable("away")
        self.told += [f"{write.operation} {write.end}" for write in writes]


def untold(kind: str) -> float:
    return REGISTRY.get_sample_value("quorum_idempotent_untold_total", {"kind": kind}) or 0.0


async def test_a_flood_of_refused_requests_pushes_out_no_answer() -> None:
    late, store, before = Late(most_drops=3), Store(), untold("drop")
    late.ended(await answered(1))
    structlog.reset_defaults()  # a service that was tested before may have silenced it
    with structlog.testing.capture_logs() as logs:
        for number in range(10):
            late.dropped(refused(number))
    with pytest.raises(StateUnavailable):
        await late.tell(store.tell, store.write)
    store.away = False
    await late.tell(store.tell, store.write)
    assert store.told == ["op1 keep", "refused7 drop", "refused8 drop", "refused9 drop"]
    assert not late
    assert untold("drop") - before == 7
    assert [log["kind"] for log in logs] == ["drop"]  # once, not seven times


async def test_answers_have_a_bound_too() -> None:
    late, store, before = Late(most_ends=2), Store(), untold("answer")
    for number in range(3):
        late.ended(await answered(number))
    store.away = False
    await late.tell(store.tell, store.write)
    assert store.told == ["op1 keep", "op2 keep"]
    assert untold("answer") - before == 1
