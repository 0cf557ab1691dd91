"""What is kept of runs to learn from, and what was said of them: bounded, for each tenant in one slot."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

from app.state.client import StateClient, reaching_state
from app.state.keys import JUDGED, learning_keys

Outcome = Literal["ok", "missing", "stands"]
_AT_ONCE: Final = 200


class ObservationStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._observe = state.script("observe")
        self._judge = state.script("judge")

    async def put(self, tenant: str, runs: Sequence[tuple[str, bytes]], *, keep_runs: int, keep_s: int) -> None:
        """Keep `runs`, each an id and its JSON. May be sent again."""
        rows = [part for run in runs for part in run]
        with reaching_state():
            await self._observe(keys=_keys(tenant), args=[keep_runs, keep_s * 1000, *rows])

    async def find(self, tenant: str, run_id: str) -> bytes | None:
        """A run; None where it is not kept."""
        with reaching_state():
            found: Any = await self._state.commands.hget(learning_keys(tenant).observed, run_id)
        return found

    async def judge(
        self, tenant: str, run_id: str, target: str, judgement: bytes, *, source: str, keep_s: int
    ) -> tuple[Outcome, bytes | None]:
        """Write what is said of `target` of a run in place of what was said of it; `stands` where that was a review and this is
        none. Besides, all judgements of the run as they were before. May be sent again."""
        with reaching_state():
            reply = await self._judge(keys=_keys(tenant), args=[run_id, target, judgement, source, keep_s * 1000])
        return reply[0].decode(), reply[1] or None

    async def latest(self, tenant: str) -> str | None:
        """The run that was kept, or judged, last."""
        keys = learning_keys(tenant)
        newest: list[tuple[float, bytes]] = []
        with reaching_state():
            for index in (keys.unjudged, keys.judged):
                found: Any = await self._state.commands.zrange(index, 0, 0, desc=True, withscores=True)
                newest += [(score, run_id) for run_id, score in found]
        return max(newest)[1].decode() if newest else None

    async def forget(self, tenant: str, run_id: str) -> bool:
        """Remove a run and its judgements. Whether it was kept."""
        keys = learning_keys(tenant)
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.hdel(keys.observed, run_id)
            pipe.hdel(keys.feedback, run_id)
            pipe.zrem(keys.unjudged, run_id)
            pipe.zrem(keys.judged, run_id)
            replies = cast("list[int]", await pipe.execute())
        return replies[0] > 0

    async def judged(self, tenant: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """Every run that was judged, with its judgements, in the order of those."""
        keys = learning_keys(tenant)
        with reaching_state():
            ids: Any = await self._state.commands.zrange(keys.judged, 0, -1)
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            with reaching_state():
                pipe = self._state.commands.pipeline(transaction=False)
                pipe.hmget(keys.observed, some)
                pipe.hmget(keys.feedback, some)
                runs, judgements = cast("tuple[list[bytes | None], list[bytes | None]]", await pipe.execute())
            for run, own in zip(runs, judgements, strict=True):
                if run is not None and own is not None:
                    yield run, own

    async def count_judgement(self, tenant: str) -> None:
        """Note that there is something new to learn from."""
        with reaching_state():
            await self._state.commands.hincrby(JUDGED, tenant, 1)

    async def fresh(self) -> Mapping[str, int]:
        """By tenant: judgements since it was last learned from them. Those of whom nothing was ever judged are left out."""
        with reaching_state():
            found: Any = await self._state.commands.hgetall(JUDGED)
        return {tenant.decode(): int(count) for tenant, count in found.items()}

    async def learned_from(self, tenant: str, count: int) -> None:
        """So many judgements are not new any more."""
        with reaching_state():
            await self._state.commands.hincrby(JUDGED, tenant, -count)


def _keys(tenant: str) -> list[str]:
    keys = learning_keys(tenant)
    return [keys.observed, keys.feedback, keys.unjudged, keys.judged]
