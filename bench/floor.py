"""The floor: what the chosen stack costs with no feature at all.

The smallest FastAPI application that validates a chat completion, forwards it through httpx types on the aiohttp transport, and
answers with what came back. `panel` and `panel-slow` ask three times at once and then once more, as the recipes of
`quorum.yaml` do.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import cast

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
HEADERS = httpx.Headers({"content-type": "application/json", "accept-encoding": "identity", "authorization": "Bearer sk-bench"})


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
    return Response(await _answer(body), media_type="application/json")


async def _send(body: ChatBody) -> httpx.Response:
    content = orjson.dumps(body.model_dump())
    return await transport.handle_async_request(httpx.Request("POST", URLS[body.model], headers=HEADERS, content=content))


async def _answer(body: ChatBody) -> bytes:
    response = await _send(body)
    try:
        return b"".join([part async for part in cast("AsyncIterator[bytes]", response.stream)])
    finally:
        await response.aclose()


async def _relay(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in cast("AsyncIterator[bytes]", response.stream):
            yield part
    finally:
        await response.aclose()


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
