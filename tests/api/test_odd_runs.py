"""Runs of which something cannot be written down: they end, and no other run is held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from app.core.run_events import OutputDelta, RunEvent, RunFinished
from app.core.runs import RunRequest
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.run_records import RunRecords
from tests.api.test_native_stream import streamed
from tests.support.loopback import Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.replicas import Reading
from tests.support.serving import Serving, serving, until, upstream

ASK = {"input": "Hi", "strategy": "odd"}
NO_DATA: Any = {1, 2}
"""What a strategy of one's own may hold by mistake: a set has no JSON."""


def told(_: RunRequest) -> RunFinished:
    return RunFinished(json=NO_DATA)


def slipped_in(request: RunRequest) -> RunFinished:
    """Into what was told before, so that no later result can be written."""
    cast("dict[str, Any]", request.metadata)["note"] = NO_DATA
    return RunFinished()


def slipped_in_late(request: RunRequest) -> RunFinished:
    """After the last event was told, before the log has it."""
    asyncio.get_running_loop().call_soon(slipped_in, request)
    return RunFinished()


class Odd(BaseOrchestrator):
    name = "odd"

    def __init__(self, end: Callable[[RunRequest], RunFinished]) -> None:
        super().__init__()
        self._end = end

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        yield OutputDelta(0, "text", "said")
        yield self._end(request)


def register(service: Serving, end: Callable[[RunRequest], RunFinished]) -> None:
    service.app.state.services.engine.strategies.register(Odd(end))


@pytest.mark.parametrize("end", [told, slipped_in])
async def test_a_run_that_cannot_be_told_ends_as_failed(service: Serving, end: Callable[[RunRequest], RunFinished]) -> None:
    register(service, end)
    last = (await streamed(service, ASK))[-1]
    assert last.fields["event"] == "run.failed"
    assert last.json["error"]["code"] == "internal_error"


@pytest.mark.parametrize("end", [told, slipped_in, slipped_in_late])
async def test_a_run_that_cannot_be_written_keeps_no_other_from_the_log(
    service: Serving, state: StateClient, end: Callable[[RunRequest], RunFinished]
) -> None:
    register(service, end)
    healthy = {"input": "Hi", "strategy": "direct", "models": ["mock/mock-swift"]}
    _, others = await asyncio.gather(
        streamed(service, ASK),
        asyncio.gather(*(streamed(service, healthy) for _ in range(4))),
    )
    assert [other[-1].fields["event"] for other in others] == ["run.finished"] * 4
    records = RunRecords(state)
    written: list[str] = []
    async with asyncio.timeout(5):
        while len(written) < len(others):
            record = await records.get("default", others[len(written)][0].json["run_id"])
            if record is None or record.status == "running":
                await asyncio.sleep(0.01)
            else:
                written.append(record.status)
    assert written == ["succeeded"] * 4


async def test_the_service_stops_at_once_though_a_run_cannot_be_written(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with serving(tmp_path, valkey.url) as service:
        register(service, slipped_in)
        reading = Reading()
        asking = asyncio.create_task(reading.begin(service.client, ASK | {"stream": True}))
        await until(lambda: reading.text)
        began = time.monotonic()
    took_s = time.monotonic() - began
    await asyncio.gather(asking, return_exceptions=True)
    assert reading.ended
    print(f"stopped after {took_s:.2f} s")
    assert took_s < 2.5


@pytest.mark.parametrize("said", ['{"id": 99999999999999999999999}', '{"id": "\\ud800"}', "[" * 300 + "]" * 300])
async def test_an_answer_that_json_cannot_carry_fails_nothing(tmp_path: Path, valkey: EmbeddedValkey, said: str) -> None:
    def answer(request: Received) -> Any:
        text = said if request.json["model"] == "m" else '{"id": 1}'
        return sse(stream(text)) if request.json.get("stream") else as_json(completion(text))

    asked = {"input": "JSON", "strategy": "consensus", "models": ["m", "m2"], "options": {"extract": {"type": "json"}}}
    async with Loopback(answer) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        whole = await service.client.post("/v1/orchestrations", json=asked)
        assert whole.status_code == 200, whole.text
        assert len(whole.json()["candidates"]) == 2
        frames = await streamed(service, asked)
        assert frames[-1].fields["event"] == "run.finished"
        assert frames[-1].json["result"]["output"]["text"] == whole.json()["output"]["text"]
        run_id = frames[0].json["run_id"]
        await until(lambda: not service.app.state.services.host.find("default", run_id))
        stored = await service.client.get(f"/v1/orchestrations/{run_id}")
        assert stored.json()["status"] == whole.json()["status"]
