"""The service on Debian's redis-server over TCP, in place of the embedded Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.config.spec import LLMProvider
from app.core.clock import SystemClock
from app.state.api_keys import ApiKeys
from app.state.client import StateClient
from app.state.dynamic_providers import DynamicProviders
from app.state.secrets import Secret
from tests.support.needs import needs
from tests.support.ports import free_port
from tests.support.serving import serving


@pytest.fixture
async def redis_url(tmp_path: Path) -> AsyncIterator[str]:
    program = needs("redis-server")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", "",
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"redis://127.0.0.1:{port}"
    client = StateClient(url)
    async with asyncio.timeout(10):
        while not await client.ping():
            await asyncio.sleep(0.02)
    await client.close()
    yield url
    process.terminate()
    await process.wait()


async def test_keys_and_registered_providers_work_on_it(tmp_path: Path, redis_url: str) -> None:
    state, secret = StateClient(redis_url), Secret("a secret of this test, long enough")
    _, key = await ApiKeys(state, secret, SystemClock()).create(name="t", tenant="default", scopes=("run", "read"))
    providers = DynamicProviders(state, secret)
    await providers.add("second", LLMProvider(kind="mock", options={"latency_scale": 0}))

    async with serving(tmp_path, redis_url, secret="a secret of this test, long enough") as service:
        assert (await service.client.get("/readyz")).json()["status"] == "ready"
        assert (await service.client.get("/v1/models")).status_code == 401
        bearer = {"authorization": f"Bearer {key}"}
        body = {"model": "second/mock-swift", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
        answer = await service.client.post("/v1/chat/completions", json=body, headers=bearer)
        assert answer.status_code == 200
        assert "4" in answer.json()["choices"][0]["message"]["content"]
    await state.close()
