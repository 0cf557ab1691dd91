"""Reliability test 12: a client that leaves takes its calls along, and one that does not read is cut."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import chunk, completion, stream
from tests.support.serving import Serving, serving, until, upstream

IN_TIME_S = 1.0
SYN_SENT = b"\2"  # tcp_states.h of Linux, as tcp(7) gives it in TCP_INFO
BEGUN = chunk({"role": "assistant", "content": ""}) + chunk({"content": "Hello"})
WHOLE = json.dumps(completion()).encode()
DIALECTS = pytest.mark.parametrize("dialect", ["openai", "native"])
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])


def asking(dialect: str, streamed: bool, models: tuple[str, ...] = ("m",)) -> bytes:
    """A request for a run of `models`; of several, the last leads."""
    strategy = "direct" if len(models) == 1 else "simple"
    if dialect == "native":
        path, body = "/v1/orchestrations", {"input": "Hi", "strategy": strategy, "models": models, "stream": streamed}
    else:
        path, model = "/v1/chat/completions", models[0] if len(models) == 1 else "panel"
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": streamed}
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Client:
    """A connection to the service that has asked."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def leave(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def client_of(service: Serving, request: bytes) -> AsyncIterator[Client]:
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def at_once(url: str) -> dict[str, Any]:
    """Where the run of a native stream ends with its last reader, as those of the other answers do."""
    return {**upstream(url), "runs": {"on_disconnect_grace_s": 0}}


def with_panel(url: str) -> dict[str, Any]:
    config = at_once(url)
    return {**config, "recipes": {"panel": {"strategy": "simple", "models": ["m", "m2"], "lead_model": "m2"}}}


async def gone(closed: Callable[[], Any], what: str) -> None:
    """Wait until the provider's connection is closed, which must be in time."""
    began = time.monotonic()
    await until(closed, within_s=IN_TIME_S)
    print(f"disconnect: {what}, upstream closed after {(time.monotonic() - began) * 1000:.0f} ms")


def silent(_request: Received) -> Answer:
    return Answer(delay_s=60)


def headers_only(request: Received) -> Answer:
    return sse(b"", hold_after=0) if request.json.get("stream") else Answer(hold_after=0)


def half(request: Received) -> Answer:
    return sse(BEGUN, hold_after=len(BEGUN)) if request.json.get("stream") else Answer(body=WHOLE, hold_after=9)


def silent_lead(request: Received) -> Answer:
    """Candidates answer at once; who is asked to make one answer of theirs begins to."""
    if len(request.json["messages"]) == 1 and request.json["messages"][0]["content"] == "Hi":
        return sse(stream("Hel", "lo")) if request.json.get("stream") else as_json(completion(f"I am {request.json['model']}"))
    return half(request)


@DIALECTS
@STREAMED
@pytest.mark.parametrize("phase", [silent, headers_only, half])
async def test_who_leaves_a_single_call(
    tmp_path: Path, valkey: EmbeddedValkey, phase: Callable[[Received], Answer], dialect: str, streamed: bool
) -> None:
    async with (
        Loopback(phase) as provider,
        serving(tmp_path, valkey.url, at_once(provider.url)) as service,
        client_of(service, asking(dialect, streamed)) as client,
    ):
        await until(lambda: provider.received)
        if streamed and phase is half:
            await client.reader.readuntil(b"Hello")
        await client.leave()
        await gone(lambda: provider.open == 0, f"{phase.__name__} {dialect}")
        assert len(provider.received) == 1


@DIALECTS
@STREAMED
async def test_who_leaves_a_panel(tmp_path: Path, valkey: EmbeddedValkey, dialect: str, streamed: bool) -> None:
    async with (
        Loopback(half) as provider,
        serving(tmp_path, valkey.url, with_panel(provider.url)) as service,
        client_of(service, asking(dialect, streamed, ("m", "m2"))) as client,
    ):
        await until(lambda: len(provider.received) == 2)
        await client.leave()
        await gone(lambda: provider.open == 0, f"panel {dialect}")


@DIALECTS
@STREAMED
async def test_who_leaves_the_synthesis(tmp_path: Path, valkey: EmbeddedValkey, dialect: str, streamed: bool) -> None:
    async with (
        Loopback(silent_lead) as provider,
        serving(tmp_path, valkey.url, with_panel(provider.url)) as service,
        client_of(service, asking(dialect, streamed, ("m", "m2"))) as client,
    ):
        await until(lambda: len(provider.received) == 3)
        await client.leave()
        await gone(provider.received[2].closed.is_set, f"synthesis {dialect}")


@contextmanager
def full_server() -> Iterator[int]:
    """A port whose queue of connections is full, so that nobody gets one."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        try:
            yield server.getsockname()[1]
        finally:
            for one in waiting:
                one.close()


def connecting() -> int:
    """Connections of this process that are being made. (To ask the kernel for all of the machine's, /proc/self/net/tcp, takes
    longer than what is waited for where other tests have left thousands behind.)"""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as one:
                    found += one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == SYN_SENT
    return found


@DIALECTS
@STREAMED
async def test_who_leaves_while_a_connection_is_made(
    tmp_path: Path, valkey: EmbeddedValkey, dialect: str, streamed: bool
) -> None:
    with full_server() as port:
        before = connecting()
        async with (
            serving(tmp_path, valkey.url, at_once(f"http://127.0.0.1:{port}")) as service,
            client_of(service, asking(dialect, streamed)) as client,
        ):
            await until(lambda: connecting() == before + 1)
            await client.leave()
            await gone(lambda: connecting() == before, f"connecting {dialect}")


@DIALECTS
async def test_who_does_not_read_is_cut(tmp_path: Path, valkey: EmbeddedValkey, dialect: str) -> None:
    endless = b"".join([chunk({"role": "assistant", "content": ""}), *[chunk({"content": "x" * 64_000})] * 400])
    async with (
        Loopback(sse(endless)) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url), stalled_s=0.4) as service,
    ):
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as stalled:
            stalled.sendall(asking(dialect, True))
            began = time.monotonic()
            await until(lambda: provider.open)
            if dialect == "openai":  # a native run does not wait for its reader
                await until(lambda: provider.open == 0, within_s=10)
            await until(lambda: service.connections == 0, within_s=10)
            took = time.monotonic() - began
            print(f"disconnect: {dialect}, who does not read is cut {took:.1f} s after asking, of which 0.4 s stalled")


async def test_comments_do_not_keep_alive_who_does_not_read(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    """The provider falls silent after it has filled the buffers, so that only comments find out."""
    much = b"".join([chunk({"role": "assistant", "content": ""}), *[chunk({"content": "x" * 64_000})] * 150])
    async with (
        Loopback(sse(much, hold_after=len(much))) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url), stalled_s=0.4, keep_alive_s=0.1) as service,
    ):
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as stalled:
            stalled.sendall(asking("openai", True))
            await until(lambda: provider.open)
            await until(lambda: provider.open == 0, within_s=10)
