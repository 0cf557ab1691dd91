"""The writer of event streams, against a server that is a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from app.api.sse import EventStream, StreamTimes
from app.core.errors import ErrorReport
from app.core.run_events import CandidateStarted, RunEvent, RunFailed, RunStarted
from tests.support.frames import frames
from tests.support.native import NativeEncoder


class Exchange:
    """One answer to one client, who never leaves."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.changed = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        self.changed.set()

    async def receive(self) -> Any:
        await asyncio.Event().wait()

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.messages).decode()

    async def answered_by(self, events: AsyncIterator[RunEvent], **times: float) -> None:
        stream = EventStream(events, NativeEncoder("run_1"), request_id="req_1", times=StreamTimes(**times))
        await stream({"type": "http"}, self.receive, self.send)


FAILED = RunFailed(ErrorReport("LimitExceeded", "limit_exceeded", "enough", retry_after=2.0))


async def test_a_failure_before_anything_commits_is_an_http_answer() -> None:
    async def run() -> AsyncIterator[RunEvent]:
        yield RunStarted("direct")
        yield FAILED

    exchange = Exchange()
    await exchange.answered_by(run())
    start, body = exchange.messages
    assert start["status"] == 429
    assert (b"retry-after", b"2") in start["headers"]
    assert b'"limit_exceeded"' in body["body"]


async def test_a_failure_after_that_is_an_event() -> None:
    async def run() -> AsyncIterator[RunEvent]:
        yield RunStarted("direct")
        yield CandidateStarted("c1", "m", "p")
        yield FAILED

    exchange = Exchange()
    await exchange.answered_by(run())
    assert exchange.messages[0]["status"] == 200
    assert [frame.fields["event"] for frame in frames(exchange.text)] == ["run.started", "candidate.started", "run.failed"]
    assert [message["more_body"] for message in exchange.messages[1:]][-1] is False


async def test_headers_are_held_for_so_long_and_what_was_held_comes_with_them() -> None:
    go_on = asyncio.Event()

    async def run() -> AsyncIterator[RunEvent]:
        yield RunStarted("direct")
        await go_on.wait()
        yield FAILED

    exchange = Exchange()
    answering = asyncio.create_task(exchange.answered_by(run(), hold_headers_s=0.01))
    while len(exchange.messages) < 2:
        exchange.changed.clear()
        await exchange.changed.wait()
    assert exchange.messages[0]["status"] == 200
    assert [frame.fields["event"] for frame in frames(exchange.text)] == ["run.started"]
    go_on.set()
    await answering
    assert [frame.fields["event"] for frame in frames(exchange.text)] == ["run.started", "run.failed"]


async def test_the_run_is_closed_when_the_server_fails_to_send() -> None:
    closed = asyncio.Event()

    async def run() -> AsyncIterator[RunEvent]:
        try:
            while True:
                yield CandidateStarted("c1", "m", "p")
                await asyncio.sleep(0)
        finally:
            closed.set()

    class Broken(Exchange):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if len(self.messages) == 3:
                raise OSError("gone")

    try:
        await Broken().answered_by(run())
    except OSError:
        assert closed.is_set()
