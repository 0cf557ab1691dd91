"""Who pays for a call that several wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.config.spec import CacheConfig
from app.core.chat import CallContext, ChatRequest, ChatResponse, Choice, Generation
from app.core.errors import BudgetExceeded
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished, TextDelta
from app.core.models import Call, ModelProfile
from app.core.usage import Usage
from app.reliability.answers import Answers
from app.reliability.charge import charge
from app.reliability.compose import compose
from app.reliability.forecast import cut_off, input_bound
from app.reliability.purse import Bounds, RunPurse

PROFILE = ModelProfile("a", "p", "a")
PROMPT = (user("What is it?"),)
WORST = input_bound(PROMPT) + 100
USED = Usage(10, 5)


class Upstream:
    """Says a word, waits until it may `go` on, and ends."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = self.open = 0

    async def __call__(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        self.asked += 1
        self.open += 1
        try:
            yield TextDelta("word")
            await self.go.wait()
            yield ResponseFinished(ChatResponse("r", "a", (Choice(0, "word"),), USED))
        finally:
            self.open -= 1


class Asker:
    """One who asks with so many tokens in his purse; without any, nothing bounds him."""

    def __init__(self, tokens: int | None = None, *, watching: bool = False) -> None:
        bounds = Bounds(tokens=tokens)
        purse = RunPurse(bounds, strict=True, ends_run=False, known_tokens=input_bound(PROMPT))
        self.purse = None if tokens is None else purse
        self.context = CallContext(purse=self.purse, cache="use")
        self.request = ChatRequest("a", PROMPT, Generation(max_tokens=100), incremental=watching, context=self.context)
        self.usage: Usage | None = None

    async def ask(self, call: Call) -> None:
        async for event in call(self.request):
            if isinstance(event, ResponseFinished):
                self.usage = event.response.usage

    @property
    def spent(self) -> int:
        return self.purse.spent.tokens if self.purse else 0


async def begun(call: Call, *askers: Asker) -> list[asyncio.Task[None]]:
    """All ask, one after the other, and wait."""
    tasks: list[asyncio.Task[None]] = []
    for asker in askers:
        tasks.append(asyncio.create_task(asker.ask(call)))
        for _ in range(10):
            await asyncio.sleep(0)
    return tasks


async def leave(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def call(upstream: Upstream) -> Call:
    return compose(upstream, [Answers(None, CacheConfig()).policy(PROFILE), charge(PROFILE)])


async def test_the_first_who_stays_and_can_pays_for_all_of_it(call: Call, upstream: Upstream) -> None:
    leader, poor, next_one, last = askers = Asker(WORST), Asker(WORST - 1), Asker(WORST), Asker(WORST)
    tasks = await begun(call, *askers)
    await leave(tasks[0])
    assert leader.spent == 0
    assert (leader.context.cached, leader.context.used) == (True, Usage())
    upstream.go.set()
    await asyncio.gather(*tasks[1:])
    assert upstream.asked == 1
    assert [asker.spent for asker in (poor, next_one, last)] == [0, 15, 0]
    assert [asker.usage for asker in (poor, next_one, last)] == [Usage(), USED, Usage()]
    assert [asker.context.cached for asker in (poor, next_one, last)] == [True, False, True]


async def test_it_goes_from_one_to_the_next_and_the_last_pays_for_what_was_cut(call: Call, upstream: Upstream) -> None:
    askers = [Asker(WORST), Asker(), Asker(WORST)]
    for task in await begun(call, *askers):
        await leave(task)
    assert upstream.open == 0
    cut = cut_off(PROMPT, Choice(0, "word"))
    assert [asker.spent for asker in askers] == [0, 0, cut.total_tokens]
    assert askers[2].context.used == cut


@pytest.mark.parametrize("watching", [False, True])
async def test_where_nobody_who_stays_can_pay_the_call_ends_to_who_leaves(
    call: Call, upstream: Upstream, watching: bool
) -> None:
    leader, poor = Asker(WORST), Asker(WORST - 1, watching=watching)
    leading, following = await begun(call, leader, poor)
    await leave(leading)
    with pytest.raises(BudgetExceeded):
        await following
    assert (upstream.asked, upstream.open) == (1, 0)
    assert leader.spent == cut_off(PROMPT, Choice(0, "word")).total_tokens
    assert poor.spent == 0


async def test_who_may_not_ask_leaves_it_to_those_who_may(call: Call, upstream: Upstream) -> None:
    poor, other = Asker(WORST - 1), Asker(WORST)
    upstream.go.set()
    first, second = await begun(call, poor, other)
    with pytest.raises(BudgetExceeded):
        await first
    await second
    assert (other.usage, other.spent, upstream.asked) == (USED, 15, 1)
