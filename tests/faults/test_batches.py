"""A large batch over processes of `quorum worker`: faster with more of them, in flat memory, and whole where one is killed."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.state.embedded import EmbeddedValkey
from tests.api.test_batches import JSONL, over, prompts, uploaded
from tests.support.loopback import Loopback, as_json
from tests.support.openai_wire import completion
from tests.support.service import service
from tests.support.serving import AT_ONCE, serving, upstream
from tests.support.valkey import running_valkey, server_pid
from tests.support.workers import worker

FULL = [pytest.mark.full, pytest.mark.timeout(900)]
LEAST_GAIN = 1.7
"""From one worker to two, where there are cores for them, the store and the server."""
MOST_SHARED = 0.3
"""Of the processor time that a worker needs for a line, what the store and the server need for it each: with more, they and
not the workers would be what bounds a batch on a machine of four cores."""
NEEDED_CORES = 3.5
"""For two workers, the store and the server; a machine that has fewer left, since others use it, shows nothing."""
MOST_MB = 40
"""That the server may grow by while a batch goes in, is asked about, and comes out."""


@pytest.fixture
def store() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


async def pieces(count: int, **more: Any) -> Any:
    """A batch as it is written to the wire, never whole."""
    for row in prompts(count, **more):
        yield json.dumps(row).encode() + b"\n"


async def rate(url: str, lines: int) -> tuple[float, Any]:
    """Lines a second, and the batch."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        asked = pieces(lines, strategy="direct", models=["mock/mock-terse"])
        answer = await client.post("/v1/batches", content=asked, headers=JSONL)
        assert answer.status_code == 202, answer.text
        began = time.monotonic()
        batch = await over(client, answer.json()["id"], 600)
        took = time.monotonic() - began
        found = 0
        async with client.stream("GET", f"/v1/batches/{batch['id']}/results") as results:
            async for line in results.aiter_lines():
                found += json.loads(line)["response"]["status_code"] == 200
    assert (batch["counts"]["succeeded"], found) == (lines, lines)
    return lines / took, batch


def used_s(pid: int) -> float:
    """Processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor time that a line took, in microseconds: which holds on a busy machine too."""

    server: float
    store: float
    workers: float

    def __str__(self) -> str:
        return f"{self.workers:.0f} + {self.store:.0f} + {self.server:.0f} us"


class Cores:
    """How many cores the rest of the machine has left to these processes while this is open, and what they use."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = (*pids, os.getpid())
        self.left = 0.0
        self.used: list[float] = []

    def __enter__(self) -> Cores:
        self._before = time.monotonic(), self._idle_s(), [used_s(pid) for pid in self._pids]
        return self

    def __exit__(self, *_: object) -> None:
        began, idle, used = self._before
        self.used = [used_s(pid) - before for pid, before in zip(self._pids, used, strict=True)]
        self.left = (self._idle_s() - idle + sum(self.used)) / (time.monotonic() - began)

    def costs(self, lines: int) -> Costs:
        """Where the server is first, the store second, and the test itself last."""
        server, store, *workers, _ = (used / lines * 1e6 for used in self.used)
        return Costs(server, store, sum(workers))

    def _idle_s(self) -> float:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


class Peak:
    """The most memory that a process has while this is open, beyond what it had before, in MB."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.grown = 0.0

    async def __aenter__(self) -> Peak:
        self._before = resident_mb(self._pid)
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            self.grown = max(self.grown, resident_mb(self._pid) - self._before)
            await asyncio.sleep(0.05)


@pytest.mark.alone
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("lines", "least"), [(5_000, 1.4), pytest.param(20_000, LEAST_GAIN, marks=FULL)])
async def test_two_workers_do_a_batch_faster_than_one_in_flat_memory(
    tmp_path: Path, store: EmbeddedValkey, lines: int, least: float
) -> None:
    config = {"providers": {"mock": AT_ONCE}, "jobs": {"embedded": False}}
    (tmp_path / "quorum.yaml").write_text(yaml.safe_dump(config))
    settings = {"redis_url": store.url, "config": tmp_path / "quorum.yaml", "log_level": "error", "secret": "x" * 32}
    rates: dict[int, float] = {}
    used: set[str] = set()
    grown: list[float] = []
    left: list[float] = []
    costs: dict[int, Costs] = {}
    valkey = server_pid(store.data_dir)
    assert valkey is not None
    with service(tmp_path, factory="app.main:create_app", **settings) as server, ExitStack() as workers:
        pids = [server.process.pid, valkey]
        for count in (1, 2, 4):
            while len(pids) < 2 + count:
                started = workers.enter_context(worker(tmp_path / f"worker-{len(pids)}", store.url, config))
                pids.append(started.process.pid)
            await rate(server.url, 200 * count)  # everything is loaded
            async with Peak(server.process.pid) as peak:
                with Cores(pids) as cores:
                    rates[count], batch = await rate(server.url, lines)
            grown.append(peak.grown)
            left.append(cores.left)
            costs[count] = cores.costs(lines)
            used.add(json.dumps(batch["usage"]))
    gain, by_costs = rates[2] / rates[1], 2 * costs[1].workers / costs[2].workers
    told = ", ".join(
        f"{count}: {per_s:,.0f}/s ({own:.1f} cores; {costs[count]})"
        for (count, per_s), own in zip(rates.items(), left, strict=True)
    )
    print(
        f"{lines:,} lines by workers (cores left to them; processor time a line of workers, store and server): {told}; "
        f"{gain:.2f} from 1 to 2, {by_costs:.2f} by what a line costs; server +{max(grown):.0f} MB at most"
    )
    assert len(used) == 1
    assert max(grown) < MOST_MB
    assert by_costs >= least
    assert max(costs[2].store, costs[2].server) < MOST_SHARED * costs[2].workers
    if min(left[:2]) > NEEDED_CORES:
        assert gain >= least


@pytest.mark.timeout(240)
@pytest.mark.parametrize("lines", [1_000, pytest.param(20_000, marks=FULL)])
async def test_a_worker_that_is_killed_loses_no_line_and_bills_none_twice(
    tmp_path: Path, store: EmbeddedValkey, lines: int
) -> None:
    at_once = 16

    async with Loopback(lambda request: as_json(completion())) as provider:
        config = upstream(provider.url)
        dark = {**config, "jobs": {"embedded": False}}
        async with serving(tmp_path, store.url, dark, secret="x" * 32) as server:
            with worker(tmp_path / "one", store.url, config) as one, worker(tmp_path / "two", store.url, config):
                batch_id = await uploaded(server.client, prompts(lines, strategy="direct", models=["m"]))
                async with asyncio.timeout(60):
                    while len(provider.received) < lines * 0.3:
                        await asyncio.sleep(0.005)
                one.kill()
                killed = time.monotonic()
                batch = await over(server.client, batch_id, 200)
                took = time.monotonic() - killed
        calls = len(provider.received)
        asked = [request.json["messages"][0]["content"] for request in provider.received]
    assert batch["counts"] == {"total": lines, "succeeded": lines, "failed": 0, "left": 0, "waiting": 0}
    assert batch["usage"] == {"input_tokens": 3 * lines, "output_tokens": 2 * lines}
    assert len(set(asked)) == lines
    assert calls - lines <= at_once
    print(
        f"a worker killed in a batch of {lines:,}: over {took:.1f} s later, 0 lines lost, "
        f"{calls - lines} asked twice (under way when it died), each booked once"
    )
