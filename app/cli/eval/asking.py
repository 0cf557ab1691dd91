"""Everything that is still to be asked, several questions at a time; each answer is kept as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.cli.eval.client import Client
from app.cli.eval.parts import Split
from app.cli.eval.questions import Question
from app.cli.eval.results import Contestant, Result, holds
from app.core.errors import NotFound

Pair = tuple[Contestant, Question]


@dataclass(frozen=True, slots=True)
class Todo:
    """`pairs` are to be asked. Of those answered before, `done` still hold; `failed` got no answer and `changed` are of another
    question, answer or recipe than now, so both are asked again."""

    pairs: tuple[Pair, ...]
    done: int = 0
    failed: int = 0
    changed: Mapping[str, int] = field(default_factory=dict[str, int])


def todo(contestants: Sequence[Contestant], questions: Sequence[Question], before: Iterable[Result], split: Split) -> Todo:
    """What is to be asked, question by question, so that every contestant is asked in the same conditions. Pure."""
    known = {(one.contestant, one.question): one for one in before}
    pairs: list[Pair] = []
    done = failures = 0
    changed: dict[str, int] = {}
    for question in questions:
        for contestant in contestants:
            result = known.get((contestant.name, question.id))
            if result is not None:
                if result.digest != question.digest or not holds(result, contestant, split):
                    changed[contestant.name] = changed.get(contestant.name, 0) + 1
                elif result.error is not None:
                    failures += 1
                else:
                    done += 1
                    continue
            pairs.append((contestant, question))
    return Todo(tuple(pairs), done, failures, changed)


@dataclass(slots=True)
class Told:
    """What became of the feedback. `unkept` runs are none that the service learns from."""

    taken: int = 0
    unkept: int = 0
    refused: int = 0
    why: str = ""


async def ask_all(
    client: Client,
    pairs: Sequence[Pair],
    *,
    concurrency: int,
    keep: Callable[[Result], None],
    teach: Split | None = None,
) -> Told:
    """Ask all `pairs`; `keep` gets each result at once. With `teach` the service is told what was right, of that split's
    training part. Cancelling it cancels what is under way.

    Raises:
        QuorumError: the service is gone or refuses the key; what was kept is kept.
    """
    told = Told()
    waiting = iter(pairs)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(pairs))):
                group.create_task(_work(client, waiting, keep, teach, told))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return told


async def _work(
    client: Client, waiting: Iterator[Pair], keep: Callable[[Result], None], teach: Split | None, told: Told
) -> None:
    for contestant, question in waiting:
        result = await client.ask(contestant, question)
        keep(result)
        if teach is None or result.run_id is None or result.error is not None or not teach.trains(question.id):
            continue
        try:
            fault = await client.tell(question, result)
        except NotFound:
            told.unkept += 1
            continue
        if fault is None:
            told.taken += 1
        else:
            told.refused += 1
            told.why = told.why or fault
