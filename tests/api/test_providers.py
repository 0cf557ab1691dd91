from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.serving import AT_ONCE, Serving, serving

OPEN = {"providers": {"mock": AT_ONCE}, "allowed_hosts": ["127.0.0.1"]}
CANARY = "canary-7f3a9c1e"


pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
async def provider() -> AsyncIterator[Loopback]:
    def answer(request: Received) -> Any:
        if request.path.endswith("/models"):
            return as_json({"object": "list", "data": [{"id": "m"}]})
        return as_json(completion("from the new one"))

    async with Loopback(answer) as running:
        yield running


def registration(url: str, **more: Any) -> dict[str, Any]:
    return {"name": "fresh", "kind": "openai_compatible", "base_url": url, "api_key": f"{CANARY}-key", **more}


def chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_life(tmp_path: Path, valkey: EmbeddedValkey, provider: Loopback) -> None:
    async with serving(tmp_path, valkey.url, OPEN) as service:
        ask = service.client
        made = await ask.post("/v1/providers", json=registration(provider.url))
        assert made.status_code == 201
        assert made.json()["has_key"] is True
        assert made.json()["dynamic"] is True
        checked = await ask.post("/v1/providers/fresh/check")
        assert checked.json()["available"] is True
        assert checked.json()["models"] == ["m"]
        answer = await ask.post("/v1/chat/completions", json=chat("fresh/m"))
        assert answer.json()["choices"][0]["message"]["content"] == "from the new one"
        assert provider.received[-1].headers["authorization"] == f"Bearer {CANARY}-key"
        assert (await ask.post("/v1/providers", json=registration(provider.url))).status_code == 409
        assert "fresh" in [entry["name"] for entry in (await ask.get("/v1/providers")).json()["data"]]
        assert (await ask.delete("/v1/providers/fresh")).status_code == 204
        assert (await ask.delete("/v1/providers/fresh")).status_code == 404
        assert (await ask.post("/v1/providers/fresh/check")).status_code == 404
        assert (await ask.post("/v1/chat/completions", json=chat("fresh/m"))).status_code == 404


async def test_a_configured_provider_stays(service: Serving) -> None:
    assert (await service.client.post("/v1/providers", json={"name": "mock", "kind": "mock"})).status_code == 409
    assert (await service.client.delete("/v1/providers/mock")).status_code == 409


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:1/v1",
        "http://localhost/v1",
        "http://10.0.0.1/v1",
        "http://169.254.169.254/latest",
        "http://[::1]/v1",
        "http://[::ffff:127.0.0.1]/v1",
        "http://0.0.0.0/v1",
        "http://2130706433/v1",
        "http://user@127.0.0.1/v1",
        "file:///etc/passwd",
        "//127.0.0.1/v1",
        "nonsense",
    ],
)
async def test_private_addresses_are_refused_unless_listed(service: Serving, base_url: str) -> None:
    answer = await service.client.post("/v1/providers", json=registration(base_url))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "base_url"
    assert len((await service.client.get("/v1/providers")).json()["data"]) == 1


@pytest.mark.parametrize("kind", ["openai_compatible", "anthropic", "gemini"])
async def test_a_name_that_is_bound_to_a_private_address_later_leads_nowhere(
    tmp_path: Path, valkey: EmbeddedValkey, provider: Loopback, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server says a public address when the provider is registered, and this machine's from then on."""
    found, really = iter([["93.184.216.34"]]), socket.getaddrinfo

    def looked_up(host: str, port: Any, *more: Any, **named: Any) -> Any:
        return really(next(found, ["127.0.0.1"])[0] if host == "rebound.test" else host, port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    port = provider.url.rpartition(":")[2]
    async with serving(tmp_path, valkey.url) as service:
        made = await service.client.post("/v1/providers", json=registration(f"http://rebound.test:{port}", kind=kind))
        assert made.status_code == 201, made.text
        answer = await service.client.post("/v1/chat/completions", json=chat("fresh/m"))
        assert answer.status_code == 502, answer.text
        assert (await service.client.post("/v1/providers/fresh/check")).json()["available"] is False
    assert provider.received == []


async def test_a_check_says_why_a_provider_cannot_be_reached(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with serving(tmp_path, valkey.url, OPEN) as service:
            await service.client.post("/v1/providers", json=registration(f"http://127.0.0.1:{closed.getsockname()[1]}"))
            found = (await service.client.post("/v1/providers/fresh/check")).json()
            assert found["available"] is False
            assert "refused or cannot be reached" in found["error"]


async def test_every_other_worker_has_it_within_a_second(tmp_path: Path, valkey: EmbeddedValkey, provider: Loopback) -> None:
    async def becomes(service: Serving, status: int) -> None:
        async with asyncio.timeout(1.0):
            while (await service.client.post("/v1/chat/completions", json=chat("fresh/m"))).status_code != status:
                await asyncio.sleep(0.01)

    async with serving(tmp_path, valkey.url, OPEN) as one, serving(tmp_path, valkey.url) as other:
        await one.client.post("/v1/providers", json=registration(provider.url))
        await becomes(other, 200)
        await other.client.delete("/v1/providers/fresh")
        await becomes(one, 404)


async def test_secrets_stay_secret(
    tmp_path: Path,
    valkey: EmbeddedValkey,
    state: StateClient,
    provider: Loopback,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing that a client, an operator or a thief of the database can read holds a part of a credential."""
    body = registration(
        provider.url, headers={"x-more": f"{CANARY}-header"}, query={"token": f"{CANARY}-query"}, options={"nonsense": CANARY}
    )
    seen: list[str] = []
    async with serving(tmp_path, valkey.url, OPEN, log_level="debug") as service:
        ask = service.client
        seen.append((await ask.post("/v1/providers", json=body)).text)
        del body["options"]
        seen.append((await ask.post("/v1/providers", json=body)).text)
        seen.append((await ask.post("/v1/providers", json={**body, "kind": 5})).text)
        seen.append((await ask.post("/v1/providers", json=body)).text)
        for path in ("/v1/providers", "/v1/models", "/metrics", "/v1/models/fresh/m"):
            seen.append((await ask.get(path)).text)
        seen.append((await ask.post("/v1/providers/fresh/check")).text)
        seen.append((await ask.post("/v1/chat/completions", json=chat("fresh/m"))).text)
        seen.append((await ask.post("/v1/orchestrations", json={"input": "Hi", "models": ["fresh/m"], "stream": True})).text)
        assert provider.received[-1].headers["x-more"] == f"{CANARY}-header"
        for key in await state.commands.keys("*"):
            seen.append(await whole(state, key))
    out, err = capfd.readouterr()
    for text in (*seen, out, err, caplog.text):
        assert CANARY not in text


async def whole(state: StateClient, key: bytes) -> str:
    """All that is stored under a key."""
    ask = state.commands
    match await ask.type(key):
        case b"hash":
            return str(await ask.hgetall(key))
        case b"zset":
            return str(await ask.zrange(key, 0, -1))
        case b"stream":
            return str(await ask.xrange(key))
        case b"set":
            return str(await ask.smembers(key))
        case _:
            return str(await ask.get(key))


@pytest.mark.parametrize("name", ["a/b", "a b", ".hidden", "", "x" * 65])
async def test_names(service: Serving, name: str) -> None:
    answer = await service.client.post("/v1/providers", json={"name": name, "kind": "mock"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "name"
