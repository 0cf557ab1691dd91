"""A service with orchestrations as tools, and the vendor that it asks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from app.state.embedded import EmbeddedValkey
from tests.support.frames import Frame, frames
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import HEAD, chunk, completion, stream
from tests.support.serving import ONE_CALL, Serving, serving

KEY = "sk-ann-0123456789"
HEADERS = {"Authorization": f"Bearer {KEY}"}
LABEL = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["spam", "ham"]}},
    "required": ["label"],
    "additionalProperties": False,
}
VERDICT = {
    "description": "Says whether a message is spam.",
    "strategy": "direct",
    "models": ["judge"],
    "k": 5,
    "seeds": [11, 12, 13, 14, 15],
    "schema": LABEL,
}
DONE = b"data: [DONE]\n\n"
USED = b"data: " + json.dumps({**HEAD, "choices": [], "usage": completion()["usage"]}).encode() + b"\n\n"
Says = Callable[[int], Answer | str]
PER_CALL = 5
"""Tokens that a call of the vendor's takes, three in and two out."""


def label(text: str) -> str:
    return json.dumps({"label": text})


class House:
    """A service with bundle tools, and the vendor that it asks: `says` answers a replicate by its seed; the model `boss` makes
    `calls` of tools, all at once, and then answers."""

    def __init__(self) -> None:
        self.says: Says = lambda _: label("spam")
        self.calls: list[dict[str, Any]] = []
        self.held: list[Received] = []
        self.service: Serving
        self.vendor: Loopback

    def answer(self, request: Received) -> Answer:
        body = request.json
        if body["model"] == "boss":
            return self._boss(body)
        said = self.says(body.get("seed", 0))
        if isinstance(said, Answer):
            self.held.append(request)
            return said
        return as_json(completion(said))

    def _boss(self, body: Any) -> Answer:
        told = [message for message in body["messages"] if message["role"] == "tool"]
        streams = body.get("stream", False)
        if told or not self.calls:
            return sse(stream("So ", "be it.").replace(DONE, USED + DONE)) if streams else as_json(completion("So be it."))
        calls = [
            {
                "index": number,
                "id": f"t{number}",
                "type": "function",
                "function": {"name": call.get("name", "verdict"), "arguments": json.dumps(call["arguments"])},
            }
            for number, call in enumerate(self.calls)
        ]
        if streams:
            return sse(chunk({"tool_calls": calls}) + chunk({}, "tool_calls") + USED + DONE)
        answer = completion("")
        answer["choices"][0]["message"]["tool_calls"] = calls
        answer["choices"][0]["finish_reason"] = "tool_calls"
        return as_json(answer)

    @property
    def seeds(self) -> list[int]:
        return sorted(body["seed"] for body in self.asked("judge"))

    def offered(self, model: str) -> set[str]:
        return {tool["function"]["name"] for body in self.asked(model) for tool in body["tools"]}

    def asked(self, model: str) -> list[Any]:
        return [one.json for one in self.vendor.received if one.json["model"] == model]

    async def execute(self, question: str = "Buy now!", tool: str = "verdict", **headers: str) -> httpx.Response:
        body = {"arguments": {"question": question}}
        return await self.service.client.post(f"/v1/tools/{tool}/execute", json=body, headers={**HEADERS, **headers})

    async def evidence(self, **arguments: Any) -> Any:
        answer = await self.execute(**arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    async def run(self, **body: Any) -> Any:
        asked = {"input": "Is it spam?", "strategy": "tools", "models": ["boss"], **body}
        answer = await self.service.client.post("/v1/orchestrations", json=asked, headers=HEADERS)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def streamed(self, **body: Any) -> list[Frame]:
        asked = {"input": "Is it spam?", "strategy": "tools", "models": ["boss"], "stream": True, **body}
        return frames((await self.service.client.post("/v1/orchestrations", json=asked, headers=HEADERS)).text)


@asynccontextmanager
async def house(
    tmp_path: Path, valkey: EmbeddedValkey, bundles: dict[str, Any] | None = None, **config: Any
) -> AsyncIterator[House]:
    made = House()
    async with Loopback(made.answer) as vendor:
        once = {**ONE_CALL, "repair": {"enabled": False}}
        provider = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": "k", "reliability": once}
        price = {"input": 1_000, "output": 1_000}
        told = {
            "providers": {"up": provider},
            "models": {name: {"provider": "up", "model": name, "price": price} for name in ("judge", "boss", "other")},
            "keys": [{"name": "ann", "key": KEY, "tenant": "a", "scopes": ["run", "tools", "read"]}],
            "tools": {
                "bundles": bundles or {"verdict": VERDICT},
                "permissions": [{"effect": "allow", "tools": ["*"], "sources": ["orchestration"]}],
            },
            **config,
        }
        async with serving(tmp_path, valkey.url, told) as service:
            made.service, made.vendor = service, vendor
            yield made


def bundle(**more: Any) -> dict[str, Any]:
    return {"verdict": {**VERDICT, **more}}
