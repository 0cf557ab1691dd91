"""What becomes of a delivery, and what is said of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.api.test_background import queued
from tests.api.test_batches_ended import telling
from tests.support.loopback import Answer, Loopback
from tests.support.replicas import slowly
from tests.support.serving import serving, until, upstream


@pytest.fixture(autouse=True)
async def empty(state: StateClient) -> None:
    await state.commands.flushall()


async def test_a_webhook_has_taken_it_once_it_says_so(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    """However long it goes on talking."""
    async with Loopback(Answer(hold_after=1)) as listener, Loopback(slowly(3, 0)) as provider:
        config = {**upstream(provider.url), **telling(listener, timeout_s=2)}
        async with serving(tmp_path, valkey.url, config) as service:
            path = f"/v1/orchestrations/{await queued(service.client, webhook=listener.url)}/deliveries"
            async with asyncio.timeout(15):
                while not (log := (await service.client.get(path)).json()["data"]):
                    await asyncio.sleep(0.02)
            assert [(line["outcome"], line["status"], line["error"]) for line in log] == [("delivered", 200, None)]
            await until(listener.received[0].closed.is_set)


@pytest.mark.parametrize(("host", "said"), [("127.0.0.1", "the webhook failed: "), ("localhost", "webhooks.private_hosts")])
async def test_what_is_said_of_a_delivery_is_about_the_webhook(
    tmp_path: Path, valkey: EmbeddedValkey, host: str, said: str
) -> None:
    async with Loopback(Answer()) as listener:
        port = listener.url.rpartition(":")[2]
    hosts = {"hosts": [f"127.0.0.1:{port}", f"localhost:{port}"], "private_hosts": [f"127.0.0.1:{port}"]}
    async with Loopback(slowly(3, 0)) as provider:
        webhooks = {"secret": "x" * 24, "max_attempts": 1, **hosts}
        async with serving(tmp_path, valkey.url, {**upstream(provider.url), "webhooks": webhooks}) as service:
            await queued(service.client, webhook=f"http://{host}:{port}/")
            async with asyncio.timeout(15):
                while not (letters := (await service.client.get("/v1/dead-letters")).json()["data"]):
                    await asyncio.sleep(0.02)
            assert said in letters[0]["reason"]
            assert "tool" not in letters[0]["reason"]
