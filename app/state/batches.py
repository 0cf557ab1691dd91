"""Batches: their lines in sealed parts, what came of each line, and how far they are.

Everything about one batch lies in one slot. A line's result is stored once, whoever ran it how often, and is counted then; a
part is over once, and the last one ends the batch.
"""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from app.state.client import StateClient, evalsha, reaching_state
from app.state.keys import batch_index, batch_keys
from app.state.run_records import Position
from app.state.together import Together

UPLOAD_S: Final = 3_600
"""How long an upload may take; what is there of one that broke off goes then."""
_LISTED: Final = 2
"""An index lasts so often as long as a batch that is never begun: one that is runs, and is kept from its end on."""
_AT_ONCE: Final = 500
"""Commands in a pipeline."""
_FAILED: Final = b"0"
_GOOD: Final = b"1"
"""What a stored result begins with, before its JSON."""

BatchStatus = Literal["uploading", "queued", "running", "completed", "cancelled", "retrying"]


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch as it is listed. `about` is the JSON of what it was made with, `sealed` who asked, and where its end is told.

    `round` counts how often its failed lines were run again, `waiting` its lines that wait for runs of their own. Times are
    Unix times in seconds.
    """

    id: str
    status: BatchStatus
    about: bytes
    sealed: str
    parts: int
    total: int
    providers: tuple[str, ...] = ()
    round: int = 0
    cancelling: bool = False
    succeeded: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    unpriced: int = 0
    waiting: int = 0
    created_at: int = 0
    started_at: int | None = None
    finished_at: int | None = None

    @property
    def over(self) -> bool:
        return self.status in ("completed", "cancelled")


@dataclass(frozen=True, slots=True)
class LineResult:
    """What came of a line: its place in its part, the line of JSON, and what it used. `owed` is what is to be booked of it once
    it is stored (`ledger.Settlement`, packed)."""

    place: int
    content: bytes
    good: bool
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int | None = 0
    owed: bytes = b""


class Batches:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._together = Together(state)
        self._done = state.script("batch_done")
        self._wait = state.script("batch_wait")
        self._part = state.script("batch_part")
        self._again = state.script("batch_again")
        self._round = state.script("batch_round")
        self._go = state.script("batch_go")
        self._cancel = state.script("batch_cancel")

    # ---- upload

    async def begin(self, tenant: str, batch_id: str, fields: Mapping[str, str | bytes | int]) -> None:
        """Note a batch whose lines are about to come."""
        key = batch_keys(tenant, batch_id).record
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.hset(key, mapping={**fields, "status": "uploading", "round": 0})
            pipe.expire(key, UPLOAD_S)
            await pipe.execute()

    async def put(self, tenant: str, batch_id: str, part: int, sealed: str, names: Sequence[bytes]) -> bool:
        """Store a part of its lines. False where one of `names` was there before."""
        keys = batch_keys(tenant, batch_id)
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.set(keys.lines(part), sealed, ex=UPLOAD_S)
            pipe.sadd(keys.names, *names)
            pipe.expire(keys.names, UPLOAD_S)
            replies: Any = await pipe.execute()
        return replies[1] == len(names)

    async def keep(
        self, tenant: str, batch_id: str, *, sizes: Sequence[int], providers: Sequence[str], created_us: int, keep_s: int
    ) -> bool:
        """All lines are there: keep them, and list the batch. `sizes` are the lines of each part, `providers` whom they ask;
        `keep_s` counts from now, until `hold` says otherwise.

        False where the upload took so long that some of it has gone.
        """
        keys, total = batch_keys(tenant, batch_id), sum(sizes)
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            for part in range(len(sizes)):
                pipe.expire(keys.lines(part), keep_s)
            pipe.expire(keys.record, keep_s)
            if not all(await pipe.execute()):
                return False
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.delete(keys.names)
            shape = {"parts": len(sizes), "total": total, "sizes": bytes(sizes), "providers": ",".join(providers)}
            pipe.hset(keys.record, mapping={"status": "queued", **shape})
            pipe.zadd(batch_index(tenant), {batch_id: created_us})
            pipe.zremrangebyscore(batch_index(tenant), "-inf", created_us - _LISTED * keep_s * 1_000_000)
            pipe.expire(batch_index(tenant), _LISTED * keep_s)
            await pipe.execute()
        return True

    async def hold(self, tenant: str, batch: BatchRecord, keep_s: int) -> None:
        """Keep all of a batch for so long from now."""
        keys = batch_keys(tenant, batch.id)
        names = [keys.record, keys.over]
        for part in range(batch.parts):
            names += [keys.lines(part), keys.results(part), keys.waiting(part)]
        for start in range(0, len(names), _AT_ONCE):
            with reaching_state():
                pipe = self._state.commands.pipeline(transaction=False)
                for name in names[start : start + _AT_ONCE]:
                    pipe.expire(name, keep_s)
                await pipe.execute()

    async def drop(self, tenant: str, batch_id: str, parts: int) -> None:
        """Forget an upload that came to nothing."""
        keys = batch_keys(tenant, batch_id)
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            for part in range(parts):
                pipe.delete(keys.lines(part))
            pipe.delete(keys.record, keys.names)
            await pipe.execute()

    # ---- running

    async def lines(self, tenant: str, batch_id: str, part: int) -> str | None:
        """The lines of a part, sealed; None where they are not kept any more."""
        with reaching_state():
            found = cast("bytes | None", await self._state.commands.get(batch_keys(tenant, batch_id).lines(part)))
        return None if found is None else found.decode()

    async def done_places(self, tenant: str, batch_id: str, part: int) -> set[int]:
        """The lines of a part that have their result."""
        with reaching_state():
            found: Any = await self._state.commands.hkeys(batch_keys(tenant, batch_id).results(part))
        return {int(place) for place in found}

    async def has_result(self, tenant: str, batch_id: str, part: int, place: int) -> bool:
        with reaching_state():
            return bool(await self._state.commands.hexists(batch_keys(tenant, batch_id).results(part), str(place)))

    async def owed(self, tenant: str, batch_id: str, part: int) -> list[bytes]:
        """What lines of a part used whose results are stored, and that may not be booked yet; nothing where it is over."""
        with reaching_state():
            return cast("list[bytes]", await self._state.commands.hvals(batch_keys(tenant, batch_id).owed(part)))

    async def done(self, tenant: str, batch_id: str, part: int, result: LineResult, keep_s: int) -> bool | None:
        """Store what came of a line. Whether the batch is to be cancelled; None where it is not there any more."""
        keys = batch_keys(tenant, batch_id)
        content = (_GOOD if result.good else _FAILED) + result.content
        args = [
            result.place,
            content,
            "succeeded" if result.good else "failed",
            result.input_tokens,
            result.output_tokens,
            "" if result.nano_usd is None else result.nano_usd,
            keep_s * 1000,
            result.owed,
        ]

        def queue(pipe: Any) -> None:
            evalsha(pipe, self._done, [keys.record, keys.results(part), keys.waiting(part), keys.owed(part)], args)

        [reply] = await self._asked(queue)
        return None if reply is None else bool(reply)

    async def waiting(self, tenant: str, batch_id: str, part: int) -> set[int]:
        """The lines of a part that wait for runs of their own."""
        with reaching_state():
            found: Any = await self._state.commands.hkeys(batch_keys(tenant, batch_id).waiting(part))
        return {int(place) for place in found}

    async def wait(self, tenant: str, batch_id: str, part: int, line: tuple[int, bytes] | None, keep_s: int) -> None:
        """A line waits for a run of its own: its place, and what is said of it until then. None: no line of the part does."""
        keys = batch_keys(tenant, batch_id)
        with reaching_state():
            await self._wait(keys=[keys.record, keys.waiting(part)], args=[keep_s * 1000, *(line or ())])

    async def part(
        self, tenant: str, batch_id: str, part: int, round_: int, *, over: bool, keep_s: int
    ) -> tuple[bool, bool] | None:
        """Note that a part is begun, or `over`: whether the batch is to be cancelled, and whether it has ended by this.

        None where there is nothing to do for this round.
        """
        keys = batch_keys(tenant, batch_id)
        with reaching_state():
            found = await self._part(
                keys=[keys.record, keys.over, keys.owed(part)], args=[part, round_, int(over), keep_s * 1000]
            )
        return None if not found else (bool(found[0]), bool(found[1]))

    async def _asked(self, queue: Callable[[Any], None]) -> list[Any]:
        with reaching_state():
            replies = await self._together.ask(queue)
            if any(isinstance(reply, Exception) for reply in replies):
                await self._state.commands.script_load(self._done.script)
                replies = await self._together.ask(queue)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    # ---- reading

    async def get(self, tenant: str, batch_id: str) -> BatchRecord | None:
        with reaching_state():
            found: Any = await self._state.commands.hgetall(batch_keys(tenant, batch_id).record)
        return _record(batch_id, found)

    async def page(self, tenant: str, below: Position | None, most: int) -> list[tuple[Position, BatchRecord | None]]:
        """Up to `most` batches from the newest on, below a position of the index; None for one that has expired."""
        top: str | int = "+inf" if below is None else below[0]
        with reaching_state():
            found: Any = await self._state.commands.zrevrangebyscore(
                batch_index(tenant), top, "-inf", start=0, num=most + 16, withscores=True
            )
            rows = [(member.decode(), int(score)) for member, score in found]
            rows = [(name, at) for name, at in rows if below is None or (at, name) < below][:most]
            pipe = self._state.commands.pipeline(transaction=False)
            for name, _ in rows:
                pipe.hgetall(batch_keys(tenant, name).record)
            values: Any = await pipe.execute() if rows else []
        return [((at, name), _record(name, value)) for (name, at), value in zip(rows, values, strict=True)]

    async def results(self, tenant: str, batch_id: str, part: int) -> list[tuple[bool | None, bytes]]:
        """What has come of the lines of a part, in their order: whether it was good, and the line of JSON; None of those that
        wait for runs of their own."""
        keys = batch_keys(tenant, batch_id)
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.hgetall(keys.waiting(part))
            pipe.hgetall(keys.results(part))
            waiting, over = cast("list[dict[bytes, bytes]]", await pipe.execute())
        found: dict[bytes, tuple[bool | None, bytes]] = {place: (None, row) for place, row in waiting.items()}
        found |= {place: (row[:1] == _GOOD, row[1:]) for place, row in over.items()}
        return [found[place] for place in sorted(found, key=int)]

    # ---- changing

    async def cancel(self, tenant: str, batch_id: str) -> None:
        """Have no further line of a batch begun. Nothing where it is not there any more."""
        with reaching_state():
            await self._cancel(keys=[batch_keys(tenant, batch_id).record])

    async def again(self, tenant: str, batch: BatchRecord) -> tuple[int, list[tuple[int, int]]] | None:
        """Prepare another round of a batch that is over: its number, and the parts that have lines to run, each with how many.

        None where it is not over, or somebody else has begun its round. One whose preparation broke off is prepared again.
        `go_again` begins it.
        """
        keys = batch_keys(tenant, batch.id)
        with reaching_state():
            round_ = await self._round(keys=[keys.record, keys.over], args=[batch.round])
            if not round_:
                return None
            sizes = cast("bytes", await self._state.commands.hget(keys.record, "sizes"))
            found: list[tuple[int, int]] = []
            for part, size in enumerate(sizes):
                left = await self._again(keys=[keys.record, keys.results(part)], args=[_FAILED, size, round_])
                if left < 0:
                    return None
                if left:
                    found.append((part, left))
        return int(round_), found

    async def go_again(
        self, tenant: str, batch: BatchRecord, round_: int, parts: Sequence[int], sealed: str, keep_s: int
    ) -> None:
        """Begin the round that `again` has prepared, once its parts are in the queue. `sealed` says who wants it. Harmless
        where it has begun."""
        keys = batch_keys(tenant, batch.id)
        rest = set(range(batch.parts)) - set(parts)
        with reaching_state():
            await self._go(keys=[keys.record, keys.over], args=[round_, keep_s * 1000, len(parts), sealed, *rest])


def _record(batch_id: str, found: Mapping[bytes, bytes]) -> BatchRecord | None:
    if not found:
        return None

    def number(name: bytes) -> int:
        return int(found.get(name, b"0"))

    def moment(name: bytes) -> int | None:
        return int(found[name]) if name in found else None

    return BatchRecord(
        batch_id,
        cast("BatchStatus", found[b"status"].decode()),
        found.get(b"about", b"{}"),
        found.get(b"sealed", b"").decode(),
        number(b"parts"),
        number(b"total"),
        tuple(filter(None, found.get(b"providers", b"").decode().split(","))),
        number(b"round"),
        b"cancel" in found,
        number(b"succeeded"),
        number(b"failed"),
        number(b"input_tokens"),
        number(b"output_tokens"),
        number(b"nano_usd"),
        number(b"unpriced"),
        number(b"waiting"),
        number(b"created_at"),
        moment(b"started_at"),
        moment(b"finished_at"),
    )
