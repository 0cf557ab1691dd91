"""Runs that use a real MCP server, a program and one over HTTP, which is killed in the middle of a call."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import HEAD, chunk, completion, stream
from tests.support.ports import free_port
from tests.support.service import ROOT
from tests.support.serving import Serving, serving, until, upstream

pytestmark = [pytest.mark.usefixtures("state"), pytest.mark.timeout(120)]
UP_S = 30.0
PROGRAM = [sys.executable, "-m", "tests.support.mcp_server"]


def model(request: Received) -> Answer:
    """Calls what the user names, and says what came of it."""
    messages, streamed = request.json["messages"], request.json.get("stream")
    if messages[-1]["role"] == "tool":
        text = f"It says {messages[-1]['content']}"
        return sse(stream(*text.partition(" "))) if streamed else as_json(completion(text))
    name, arguments = messages[-1]["content"].split(" ", 1)
    call = {"index": 0, "id": "t1", "type": "function", "function": {"name": name, "arguments": arguments}}
    if streamed:
        return sse(chunk({"tool_calls": [call]}) + chunk({}, "tool_calls") + b"data: [DONE]\n\n")
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return as_json({**HEAD, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})


class Server:
    """An MCP server that can be killed. A program is started again by the service, one over HTTP by `start`."""

    def __init__(self, notes: Path, port: int | None) -> None:
        self._notes, self._port = notes, port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> dict[str, Any]:
        if self._port is not None:
            return {"url": f"http://127.0.0.1:{self._port}/mcp"}
        return {"command": [*PROGRAM, str(self._notes)], "cwd": str(ROOT), "connect_s": 30}

    @property
    def hangs(self) -> bool:
        return self._notes.exists() and "hanging" in self._notes.read_text()

    def start(self) -> None:
        if self._port is not None:
            command = [*PROGRAM, str(self._notes), str(self._port)]
            self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        elif self._port is None:
            os.kill(int(self._notes.read_text().split()[1]), signal.SIGKILL)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture(params=["a program", "a URL"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path / "notes", free_port() if request.param == "a URL" else None)
    made.start()
    yield made
    made.close()


@asynccontextmanager
async def using(server: Server, tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[Serving]:
    async with Loopback(model) as vendor:
        tools = {"mcp": {"far": server.config}, "permissions": [{"effect": "allow", "tools": ["far__*"]}]}
        async with serving(tmp_path, valkey.url, upstream(vendor.url) | {"tools": tools}) as service:
            await becomes(service, up=True)
            yield service


async def becomes(service: Serving, *, up: bool) -> None:
    async with asyncio.timeout(UP_S):
        while True:
            told = (await service.client.get("/v1/tools/far__hang")).json()
            if ("unavailable" in told and told["unavailable"] is None) is up:
                return
            await asyncio.sleep(0.02)


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"input": text, "strategy": "tools", "models": ["m"], "options": {"tools": ["far__*"]}, **more}


async def as_one_json(service: Serving, body: dict[str, Any]) -> dict[str, Any]:
    return (await service.client.post("/v1/orchestrations", json=body)).json()


async def as_events(service: Serving, body: dict[str, Any]) -> dict[str, Any]:
    """The result in the last event; before it the call's end was told, with its error where it has one."""
    async with service.client.stream("POST", "/v1/orchestrations", json={**body, "stream": True}) as response:
        frames = [json.loads(line[6:]) async for line in response.aiter_lines() if line.startswith("data: ")]
    assert [one["type"] for one in frames if one["type"].startswith("tool.")] == ["tool.called", "tool.returned"]
    [returned] = [one["call"] for one in frames if one["type"] == "tool.returned"]
    assert returned == frames[-1]["result"]["tool_calls"][0]
    return frames[-1]["result"]


@pytest.mark.parametrize("ask", [as_one_json, as_events], ids=["JSON", "events"])
async def test_a_server_that_is_killed_in_the_middle_ends_no_run_and_the_next_one_uses_it_again(
    server: Server, tmp_path: Path, valkey: EmbeddedValkey, ask: Callable[[Serving, dict[str, Any]], Awaitable[dict[str, Any]]]
) -> None:
    async with using(server, tmp_path, valkey) as service:
        running = asyncio.ensure_future(ask(service, asked("far__hang {}")))
        await until(lambda: server.hangs, within_s=UP_S)
        killed_at = time.monotonic()
        server.kill()
        result = await running
        told_s = time.monotonic() - killed_at
        [call] = result["tool_calls"]
        assert (result["status"], result["error"]) == ("succeeded", None)
        assert (call["status"], call["error"]["code"]) == ("failed", "tool_failed")
        assert "went away while it worked; whether the call took effect is not known" in call["error"]["message"]
        assert result["output"]["text"].startswith('It says {"error":{"code":"tool_failed"')

        server.start()
        await becomes(service, up=True)
        again_s = time.monotonic() - killed_at
        result = await ask(service, asked('far__add {"a": 17, "b": 23}'))
        assert result["tool_calls"][0]["result"] == {"result": 40}
        assert result["output"]["text"] == 'It says {"result":{"result":40}}'
    print(f"the run ended {told_s * 1000:.0f} ms after its MCP server was killed; the next one used it after {again_s:.1f} s")
    assert told_s < 10


async def test_a_run_that_begins_while_the_server_is_away_says_so_and_may_be_made_to_fail(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    server = Server(tmp_path / "notes", free_port())
    server.start()
    try:
        async with using(server, tmp_path, valkey) as service:
            server.kill()
            [call] = (await as_one_json(service, asked('far__add {"a": 1, "b": 2}')))["tool_calls"]
            assert call["error"]["code"] == "tool_unavailable"  # which is how it is noticed, or within a minute
            assert "nothing of the call was sent" in call["error"]["message"]
            await becomes(service, up=False)
            [call] = (result := await as_one_json(service, asked("far__hang {}")))["tool_calls"]
            assert (result["status"], call["error"]["code"]) == ("succeeded", "tool_unavailable")
            assert call["error"]["retry_after"] == 1
            options = {"tools": ["far__*"], "on_tool_error": "fail"}
            answer = await service.client.post("/v1/orchestrations", json=asked("far__hang {}") | {"options": options})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "tool_unavailable")
    finally:
        server.close()
