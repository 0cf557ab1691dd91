"""The floor: what the chosen stack costs with no feature at all.

The smallest FastAPI application that validates a chat completion, forwards it through httpx types on the aiohttp transport
with timeouts, reads the answer as JSON, and answers with it; of a stream, every event. `panel` and `panel-slow` ask three times
at once and then once more, as the recipes of `quorum.yaml` do.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import orjson
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from httpx_aiohttp import AiohttpTransport
from pydantic import BaseModel

UPSTREAM = os.environ.get("BENCH_UPSTREAM", "http://127.0.0.1:1")
URLS = {
    model: httpx.URL(f"{UPSTREAM}/{path}/v1/chat/completions")
    for model, path in {
        "instant": "instant",
        "panel": "instant",
        "panel-slow": "slow",
        "paced": "paced",
    }.items()
}
HEADERS = {"content-type": "application/json", "accept-encoding": "identity", "authorization": "Bearer sk-bench"}
EXTENSIONS = {"timeout": {"connect": 5.0, "read": 60.0, "write": None, "pool": 5.0}}


class Message(BaseModel):
    role: str
    content: str


class ChatBody(BaseModel):
    model: str
    messages: list[Message]
    stream: bool = False


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=1000)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)


app = FastAPI(openapi_url=None)
transport = AiohttpTransport(client=_session)


@app.get("/readyz")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


@app.post("/v1/chat/completions")
async def chat(body: ChatBody) -> Response:
    if body.stream:
        response = await _send(body)
        return StreamingResponse(_relay(response), media_type="text/event-stream")
    if body.model.startswith("panel"):
        await asyncio.gather(_answer(body), _answer(body), _answer(body))
    return Response(orjson.dumps(await _answer(body)), media_type="application/json")


async def _send(body: ChatBody) -> httpx.Response:
    content = orjson.dumps(body.model_dump())
    request = httpx.Request("POST", URLS[body.model], headers=HEADERS, content=content, extensions=EXTENSIONS)
    return await transport.handle_async_request(request)


async def _answer(body: ChatBody) -> Any:
    response = await _send(body)
    try:
        return orjson.loads(await response.aread())
    finally:
        await response.aclose()


async def _relay(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                yield b"data: " + orjson.dumps(orjson.loads(line[6:])) + b"\n\n"
            elif line:
                yield line.encode() + b"\n\n"
    finally:
        await response.aclose()


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
