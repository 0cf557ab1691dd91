"""A service that keeps conversations, and a vendor that counts what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.serving import Serving, serving, upstream

KEYS = [
    {"name": name, "key": f"sk-{name}-0123456789", "tenant": tenant, "scopes": scopes}
    for name, tenant, scopes in [("ann", "a", ["run", "read"]), ("bob", "b", ["run", "read"]), ("eve", "a", ["read"])]
]


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}-0123456789"}


def echo(request: Received) -> Answer:
    """Answers with how many messages there were."""
    count = f"{len(request.json['messages'])} messages"
    return sse(stream(count)) if request.json.get("stream") else as_json(completion(count))


@asynccontextmanager
async def talking(directory: Path, url: str, say: Any = echo, **config: Any) -> AsyncIterator[tuple[Serving, Loopback]]:
    async with Loopback(say) as provider, serving(directory, url, {**upstream(provider.url), **config}) as service:
        yield service, provider


async def ask(service: Serving, said: Any, conversation: str | None = "c", headers: Any = None, **more: Any) -> httpx.Response:
    body = {"strategy": "direct", "models": ["m"], "input": said, "conversation_id": conversation, **more}
    return await service.client.post("/v1/orchestrations", json=body, headers=headers)


async def told(service: Serving, conversation: str = "c", **query: Any) -> Any:
    answer = await service.client.get(f"/v1/conversations/{conversation}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def texts(request: Received) -> list[str]:
    return [message["content"] for message in request.json["messages"]]
