"""`python -m bench.capacity`: what so many runs a day and open streams need of workers, store and memory.

It puts jobs and events through the real scripts on a Valkey of its own, asks that server what each took of its time and memory,
and simulates the queue at the peak of the day. What that says of a machine is only as good as the answer times it is told.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import math
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.jobs import Job
from app.core.run_json import LoggedEvent
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.jobs import Bounds, JobQueue
from app.state.run_records import Append, Ownership, RunRecords

DAY_S = 86_400
WIDE = Bounds(per_tenant=1_000_000, per_provider={}, max_wait_s=DAY_S)
RESULT_BYTES = 2_000
EVENTS = 12
"""Writes of a run's events: one every 50 ms while its model speaks, of a streamed answer of some seconds fewer than that."""
STREAM_KB = 60
"""What an open stream takes of its process: the budget of the benchmark."""
STREAMS_A_PROCESS = 1_000


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run of the queue costs the store: commands, microseconds of its one core, and bytes while it is kept."""

    commands: float
    cpu_us: float
    kept_bytes: float


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that jobs wait for their turn, and the most that waited at once."""

    mean_s: float
    p50_s: float
    p99_s: float
    deepest: int


def simulated(per_s: float, slots: int, answer_s: float, *, jobs: int = 50_000, seed: int = 1) -> Waits:
    """Jobs that come at random, `per_s` on average, to `slots` that take log-normal times with the mean `answer_s`."""
    rng = random.Random(seed)
    sigma = 0.8
    mu = math.log(answer_s) - sigma * sigma / 2
    free = [0.0] * slots
    begins: list[float] = []
    now, deepest, waits = 0.0, 0, list[float]()
    for _ in range(jobs):
        now += rng.expovariate(per_s)
        begin = max(now, heapq.heappop(free))
        heapq.heappush(free, begin + rng.lognormvariate(mu, sigma))
        waits.append(begin - now)
        while begins and begins[0] <= now:
            heapq.heappop(begins)
        if begin > now:
            heapq.heappush(begins, begin)
            deepest = max(deepest, len(begins))
    ranked = statistics.quantiles(waits, n=100)
    return Waits(statistics.fmean(waits), ranked[49], ranked[98], deepest)


async def measured(url: str, runs: int) -> Measured:
    """Put `runs` through queue and run log, as workers do."""
    state = StateClient(url)
    queue, records = JobQueue(state), RunRecords(state)
    try:
        await state.commands.config_resetstat()
        before = await _store(state)
        for number in range(runs):
            await queue.put(Job(f"run_{number:024x}", f"t{number % 10}", "run"))
        while (job := await queue.claim("w", 16, WIDE)) is not None:
            whose = Ownership(job.tenant, job.id, "w", 1)
            fields = {"strategy": "direct", "created_at": "1", "request": b"{}"}
            for seq in range(1, EVENTS + 1):
                event = LoggedEvent(seq, "output.delta", b'{"text":"%b"}' % (b"x" * 100))
                last = seq == EVENTS
                write = Append(
                    whose,
                    DAY_S * 1000,
                    3_600_000,
                    [event],
                    fields if seq == 1 else None,
                    status="succeeded" if last else "",
                    result=b"x" * RESULT_BYTES if last else b"",
                )
                await records.append([write])
            await queue.renew("w", [job], worker=True)
            await queue.done("w", job)
        after = await _store(state)
    finally:
        await state.close()
    return Measured(*((after[part] - before[part]) / runs for part in range(3)))


async def _store(state: StateClient) -> tuple[float, float, float]:
    facts: Any = await state.commands.info("all")
    cpu_us = (facts["used_cpu_user"] + facts["used_cpu_sys"]) * 1e6
    return facts["total_commands_processed"], cpu_us, facts["used_memory"]


def told(found: Measured, options: argparse.Namespace) -> list[str]:
    """The page's figures, for what was asked."""
    average = options.runs_per_day / DAY_S
    peak = average * options.peak
    slots = math.ceil(peak * options.answer_s * options.headroom)
    waits = simulated(peak, slots, options.answer_s)
    without = simulated(peak, max(1, math.ceil(peak * options.answer_s)), options.answer_s)
    return [
        f"runs: {options.runs_per_day:,.0f} a day are {average:.1f}/s, {peak:.0f}/s at a peak of {options.peak:g}",
        f"slots: {peak:.0f}/s x {options.answer_s:g} s x {options.headroom:g} = {slots:,}, "
        f"{math.ceil(slots / options.concurrency)} processes of {options.concurrency}",
        f"waiting at the peak: p50 {waits.p50_s:.2f} s, p99 {waits.p99_s:.2f} s, {waits.deepest} at most; "
        f"without headroom p99 {without.p99_s:.1f} s, {without.deepest:,}",
        f"store: {found.commands:.0f} commands and {found.cpu_us / 1000:.2f} ms a run, at the peak "
        f"{peak * found.commands:,.0f} commands/s, {peak * found.cpu_us / 1e4:.0f} % of its core",
        f"kept: {found.kept_bytes / 1000:.1f} KB a run, {options.runs_per_day * found.kept_bytes / 1e9:.1f} GB a day",
        f"streams: {options.streams:,.0f} of {STREAM_KB} KB are {options.streams * STREAM_KB / 1e6:.1f} GB in "
        f"{math.ceil(options.streams / STREAMS_A_PROCESS)} processes of {STREAMS_A_PROCESS:,}",
    ]


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--runs-per-day", type=float, default=1e6)
    parser.add_argument("--streams", type=float, default=1e5, help="open at once")
    parser.add_argument("--peak", type=float, default=4.0, help="the peak of the day over its average (default: %(default)s)")
    parser.add_argument("--answer-s", type=float, default=8.0, help="seconds that a run takes (default: %(default)s)")
    parser.add_argument("--headroom", type=float, default=1.25, help="slots over those that are busy (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=64, help="jobs.concurrency of a worker (default: %(default)s)")
    parser.add_argument("--measure", type=int, default=2_000, help="runs that are put through the store (default: %(default)s)")
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="quorum-capacity-") as directory, EmbeddedValkey(Path(directory)) as store:
        found = asyncio.run(measured(store.url, options.measure))
    print("\n".join(told(found, options)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
