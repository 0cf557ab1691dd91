"""A shop whose orders need a person, and models that order what they are asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from app.core.clock import Clock
from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import HEAD, chunk, completion, stream
from tests.support.serving import Serving, serving, upstream

URL = "/v1/orchestrations"
ASK = {"input": "Emma", "recipe": "helper"}

KEYS = [
    {"name": "app", "key": "sk-app-0123456789", "tenant": "a", "scopes": ["run", "read"]},
    {"name": "boss", "key": "sk-boss-0123456789", "tenant": "a", "scopes": ["review"]},
    {"name": "root", "key": "sk-root-0123456789", "tenant": "a", "scopes": ["admin"]},
    {"name": "other", "key": "sk-other-0123456789", "tenant": "b", "scopes": ["run", "read", "review"]},
]
APP, BOSS, ROOT, OTHER = ({"Authorization": f"Bearer sk-{name}-0123456789"} for name in ("app", "boss", "root", "other"))


def shop_config(shop: Loopback, **more: Any) -> dict[str, Any]:
    """Tools that read and write at `shop`; orders need an approval."""
    host = shop.url.removeprefix("http://")
    title = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    order = {
        "description": "Orders a book.",
        "method": "POST",
        "url": f"{shop.url}/orders",
        "body": {"title": "{title}"},
        "input": title,
        "cost_usd": 0.25,
    }
    look = {"description": "Looks for a book.", "url": f"{shop.url}/books/{{title}}", "input": title}
    rules = [
        {"effect": "allow", "tools": ["look"]},
        {"name": "orders", "effect": "approve", "tools": ["order"], "reason": "somebody should look"},
    ]
    tools = {
        "hosts": [host],
        "private_hosts": [host],
        "http": {"order": order, "look": look},
        "permissions": rules,
        "builtins": [],
    }
    return {"tools": tools, "recipes": {"helper": {"strategy": "tools", "models": ["m"]}}, "keys": KEYS, **more}


def asks_for(*calls: tuple[str, str], streamed: bool = False) -> Answer:
    """The model asks for tools: names, each with a title."""
    made: list[Any] = [
        {
            "id": f"c-{name}-{title}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps({"title": title})},
        }
        for name, title in calls
    ]
    if streamed:
        pieces = [{"index": number, **call} for number, call in enumerate(made)]
        return sse(chunk({"role": "assistant", "tool_calls": pieces}) + chunk({}, "tool_calls") + b"data: [DONE]\n\n")
    message = {"role": "assistant", "content": None, "tool_calls": made}
    used = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return as_json({**HEAD, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": used})


class World:
    """The shop and the model at one address. The model asks for `calls`, and then says what the tools have said."""

    def __init__(self, *calls: tuple[str, str], order: Callable[[], Answer] | None = None) -> None:
        self.calls = calls
        self.ordered: list[str] = []
        self.looked: list[str] = []
        self.asked: list[Any] = []
        self.before: Callable[[], None] | None = None
        """Called when the model is asked a question."""
        self.order = order or (lambda: as_json({"order": 7}))

    def __call__(self, request: Received) -> Answer:
        if request.path == "/orders":
            self.ordered.append(request.json["title"])
            return self.order()
        if request.path.startswith("/books/"):
            self.looked.append(request.path.removeprefix("/books/"))
            return as_json({"stock": 3})
        self.asked.append(request.json)
        messages, streamed = request.json["messages"], bool(request.json.get("stream"))
        if messages[-1]["role"] == "user":
            if self.before is not None:
                self.before()
            text = messages[-1]["content"]
            return asks_for(*(self.calls or (("order", text),)), streamed=streamed)
        said = "; ".join(message["content"] for message in messages if message["role"] == "tool")
        if streamed:
            return sse(stream(said))
        return as_json(completion(said))


@asynccontextmanager
async def running(
    path: Path,
    valkey: EmbeddedValkey,
    world: World,
    settings: Mapping[str, Any] | None = None,
    *,
    clock: Clock | None = None,
    **config: Any,
) -> AsyncIterator[Serving]:
    """The service with the tools of `world`, which it has to itself."""
    async with (
        Loopback(world) as both,
        serving(
            path, valkey.url, {**upstream(both.url), **shop_config(both, **config)}, clock=clock, **(settings or {})
        ) as service,
    ):
        yield service


async def paused(service: Serving, body: Any = ASK, **headers: str) -> Any:
    """The result of a run that waits."""
    answer = await service.client.post(URL, json=body, headers={**APP, **headers})
    assert answer.status_code == 202, answer.text
    result = answer.json()
    assert result["status"] == "needs_approval"
    assert answer.headers["location"] == f"{URL}/{result['id']}"
    return result


async def reconfigured(service: Serving, change: Callable[[Any], object], **headers: str) -> None:
    """Have `change` made to the configuration, and wait until it is in force."""
    config = yaml.safe_load(service.config.read_text())
    change(config)
    service.configure(config)
    answer = await service.client.post("/v1/admin/reload", headers={**ROOT, **headers})
    assert answer.status_code == 200, answer.text


async def acts_on(service: Serving, run_id: str) -> list[Any]:
    """What the audit trail has of a run, the oldest first."""
    listed = await service.client.get("/v1/audit", params={"run_id": run_id}, headers=ROOT)
    return listed.json()["data"][::-1]


async def pending_of(client: httpx.AsyncClient, run_id: str | None = None, url: str = "") -> list[Any]:
    """The approvals that are pending, the oldest first."""
    wanted = {"status": "pending", **({"run_id": run_id} if run_id else {})}
    answer = await client.get(f"{url}/v1/approvals", params=wanted, headers=BOSS)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][::-1]


async def decide(client: httpx.AsyncClient, approval_id: str, url: str = "", **decision: Any) -> httpx.Response:
    body = {"decision": "approve", **decision}
    return await client.post(f"{url}/v1/approvals/{approval_id}", json=body, headers=BOSS)


async def ended(client: httpx.AsyncClient, run_id: str, url: str = "", within_s: float = 30) -> Any:
    """The result of a run, once it is over. A store that is away is asked again, as the 503 says."""
    async with asyncio.timeout(within_s):
        while True:
            answer = await client.get(f"{url}/v1/orchestrations/{run_id}", headers=APP)
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 200 and answer.json()["status"] not in ("running", "needs_approval"):
                return answer.json()
            await asyncio.sleep(0.05)
