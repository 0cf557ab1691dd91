"""Reliability test 9: an upstream stream that is cut at every byte offset gives exactly one terminal frame."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from app.state.embedded import EmbeddedValkey
from tests.support.frames import frames
from tests.support.loopback import Answer, Loopback, Received, sse
from tests.support.openai_wire import stream
from tests.support.serving import Serving, serving, upstream

WHOLE = stream("Hel", "lo \u2014 th", "ere")
SAID = "Hello \u2014 there"
AT_ONCE = 16
Ask = Callable[[Serving, int], Any]


def cut(request: Received) -> Answer:
    """The stream, cut where the prompt says."""
    prompt = request.json["messages"][0]["content"]
    return sse(WHOLE, stop_after=int(prompt.split()[-1]))


async def ask_openai(service: Serving, offset: int) -> str:
    """One word for how it ended: `done`, `error` or the HTTP status."""
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": f"cut {offset}"}]}
    answer = await service.client.post("/v1/chat/completions", json=body)
    if answer.status_code != 200:
        assert answer.json()["error"]["message"]
        return str(answer.status_code)
    found = frames(answer.text)
    terminal = [frame for frame in found if frame.fields["data"] == "[DONE]" or "error" in frame.json]
    assert terminal == [found[-1]], f"cut at {offset}: {answer.text}"
    if found[-1].fields["data"] != "[DONE]":
        return "error"
    assert "".join(c["delta"].get("content", "") for f in found[:-1] for c in f.json["choices"]) == SAID
    return "done"


async def ask_native(service: Serving, offset: int) -> str:
    body = {"input": f"cut {offset}", "strategy": "direct", "models": ["m"], "stream": True}
    answer = await service.client.post("/v1/orchestrations", json=body)
    if answer.status_code != 200:
        return str(answer.status_code)
    found = frames(answer.text)
    terminal = [frame for frame in found if frame.fields["event"] in ("run.finished", "run.failed")]
    assert terminal == [found[-1]], f"cut at {offset}: {answer.text}"
    if found[-1].fields["event"] == "run.failed":
        assert found[-1].json["error"]["failure"] == "incomplete"
        return "error"
    assert found[-1].json["result"]["output"]["text"] == SAID
    return "done"


@pytest.mark.parametrize(("ask", "early"), [(ask_openai, "502"), (ask_native, "error")])
async def test_cut_at_every_byte(tmp_path: Path, valkey: EmbeddedValkey, ask: Ask, early: str) -> None:
    begun = WHOLE.index(b'"Hel"')
    over = WHOLE.index(b"data: [DONE]")
    async with Loopback(cut) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        turns = asyncio.Semaphore(AT_ONCE)

        async def ended(offset: int) -> str:
            async with turns:
                return await ask(service, offset)

        offsets = range(len(WHOLE) + 1)
        endings = dict(zip(offsets, await asyncio.gather(*map(ended, offsets)), strict=True))
        assert len(provider.received) == len(offsets)
    assert {endings[offset] for offset in offsets if offset <= begun} == {early}
    assert {endings[offset] for offset in offsets if begun < offset < over} == {early, "error"}
    assert endings[len(WHOLE)] == "done"
    print(f"sse-terminal: {ask.__name__}, cut at {len(offsets)} places, one last frame each")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
async def test_the_official_client_raises(tmp_path: Path, valkey: EmbeddedValkey, share: float) -> None:
    offset = int(WHOLE.index(b"data: [DONE]") * share)
    async with (
        Loopback(cut) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url)) as service,
        AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client,
    ):

        async def read() -> None:
            asked: Any = [{"role": "user", "content": f"cut {offset}"}]
            async with client.chat.completions.stream(model="m", messages=asked) as chunks:
                _ = [piece async for piece in chunks]

        with pytest.raises(openai.APIError):
            await read()
