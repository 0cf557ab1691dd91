"""Tools that write, and processes that die around them: the effect takes place at most once, and nobody claims to know more."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.book_shop import order_tool
from tests.support.clients import http_client
from tests.support.loopback import Answer, Loopback
from tests.support.processes import processes
from tests.support.service import ROOT, eventually, processes_of, service, workers_of

pytestmark = pytest.mark.timeout(180)
URL = "/v1/tools/order/execute"
BODY = {"arguments": {"title": "Emma"}}


async def test_a_keyed_write_whose_process_was_killed_is_not_made_again(tmp_path: Path) -> None:
    release = asyncio.Event()
    keys = [f"k{number}" for number in range(5)]
    async with (
        Loopback(Answer(wait_for=release)) as shop,
        processes(tmp_path, shop, 2, {"tools": order_tool(shop)}) as (first, second),
        http_client(timeout_s=90) as client,
    ):
        asked = [
            asyncio.ensure_future(client.post(first.url + URL, json=BODY, headers={"Idempotency-Key": key})) for key in keys
        ]
        async with asyncio.timeout(30):
            while len(shop.received) < len(keys):
                await asyncio.sleep(0.01)
        first.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        for one in asked:
            with pytest.raises(httpx.HTTPError):
                await one
        release.set()
        for _ in range(2):
            for key in keys:
                sent = {"Idempotency-Key": key, "Prefer": "wait=60"}
                answer = await client.post(second.url + URL, json=BODY, headers=sent)
                assert (answer.status_code, answer.json()["error"]["code"]) == (409, "effect_uncertain"), answer.text
        told_s = time.monotonic() - killed_at
        print(f"{len(keys)} writes of a dead process, {len(shop.received)} effects, all told within {told_s:.1f} s")
        assert len(shop.received) == len(keys)
        fresh = await client.post(second.url + URL, json=BODY, headers={"Idempotency-Key": "another"})
        assert fresh.status_code == 200


def test_an_mcp_program_runs_once_for_all_workers_and_ends_with_the_service(tmp_path: Path) -> None:
    notes, config = tmp_path / "notes", tmp_path / "quorum.yaml"
    program = {
        "command": [sys.executable, "-m", "tests.support.mcp_server", str(notes)],
        "env": {"PYTHONPATH": str(ROOT)},
        "cwd": str(ROOT),
        "connect_s": 60,
    }
    tools = {"mcp": {"near": program}, "permissions": [{"effect": "allow", "tools": ["near__*"]}]}
    config.write_text(yaml.safe_dump({"providers": {"mock": {"kind": "mock"}}, "tools": tools}))
    with service(tmp_path, factory="app.main:create_app", workers=3, config=config, log_level="error") as running:

        def pid() -> str | None:
            """Of the program, asked on a new connection, which any worker may take."""
            answer = httpx.post(f"{running.url}/v1/tools/near__pid/execute", json={"arguments": {}}, timeout=20)
            return answer.json()["result"] if answer.status_code == 200 else None

        def all_know() -> bool:
            return None not in [pid() for _ in range(30)]

        eventually(all_know, within_s=60)
        seen = {pid() for _ in range(60)}
        assert [f"pid {one}" for one in seen] == notes.read_text().splitlines()
        victim = next(child for child in workers_of(running.process.pid))
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in workers_of(running.process.pid), within_s=20)
        eventually(all_know, within_s=60)
        assert {pid() for _ in range(60)} == seen  # the death of a worker does not disturb it
        running.signal(signal.SIGTERM)
        assert running.end() == 0
        assert processes_of(tmp_path) == set()
        assert not any(Path(f"/proc/{one}").exists() for one in seen)
