"""Many long answers: they are compared as they come, and the loop that serves others goes on meanwhile."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from app.core.run_events import EvidenceUpdated
from app.orchestration.consensus.counting import worth_telling
from tests.orchestration.consensus.paneled import paneled, saying
from tests.orchestration.scripted import Ran, Scripted

WORDS = 1_300
MOST_SILENT_MS = 80


def essays(count: int, words: int) -> list[str]:
    draw = random.Random(1)
    known = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(3000)]
    bases = [draw.choices(known, k=words) for _ in range(3)]
    return [" ".join(word if draw.random() < 0.8 else draw.choice(known) for word in bases[at % 3]) for at in range(count)]


async def longest_silence_ms(over: asyncio.Event) -> float:
    """How long the loop was kept from a timer of a millisecond, at the most."""
    worst, before = 0.0, time.perf_counter()
    while not over.is_set():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        worst, before = max(worst, now - before), now
    return worst * 1000


async def timed(*models: Scripted, watched: bool, k: int) -> tuple[Ran, float, float]:
    over = asyncio.Event()
    watching = asyncio.ensure_future(longest_silence_ms(over))
    await asyncio.sleep(0)
    began = time.perf_counter()
    ran = await paneled(*models, k=k, request={"deltas": "all" if watched else "output"})
    took = time.perf_counter() - began
    over.set()
    return ran, await watching, took


@pytest.mark.alone
@pytest.mark.parametrize("watched", [False, True])
async def test_the_loop_goes_on_while_sixty_four_long_answers_are_compared(watched: bool) -> None:
    turns = iter(essays(64, WORDS))
    models = [Scripted(name, candidate=lambda _request: next(turns)) for name in "abcd"]
    ran, silent, took = await timed(*models, watched=watched, k=16)
    assert len(ran.result.candidates) == 64
    print(f"64 answers of {WORDS} words, watched: {watched}: {took:.2f} s, the loop silent for at most {silent:.0f} ms")
    assert silent < MOST_SILENT_MS


async def test_few_answers_are_summed_up_one_by_one_and_many_less_and_less_often() -> None:
    told = [count for count in range(1, 65) if worth_telling(count)]
    assert told == [*range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]
    ran = await paneled(*saying(*(f"text {number}" for number in range(12))))
    phases = [update.phase for update in ran.of(EvidenceUpdated)]
    assert phases.count("replicate_done") == 12
    assert phases.count("partial_summary") == 10


async def test_long_answers_are_counted_as_short_ones_are() -> None:
    same, other = essays(3, 2_000)[0], essays(2, 2_000)[1]
    ran = await paneled(*saying(other, *[same] * 5), request={"deltas": "all"})
    assert ran.result.consensus
    assert [one["members"] for one in ran.result.consensus.clusters] == [["b", "c", "d", "e", "f"], ["a"]]
