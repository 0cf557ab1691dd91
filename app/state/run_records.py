"""What is stored of runs: a record, a log of events, and an index for each tenant.

Everything about one run lies in one slot. The record's `owner` is the process that runs it, `epoch` the number of that
ownership (1 at first; whoever takes a run over counts it up), `lease_until` when the owner counts as dead. Every write of an
owner names owner and epoch, and is refused to one who has lost the run. All times are the server's.
"""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from redis.exceptions import NoScriptError

from app.core.run_json import LoggedEvent
from app.state.client import StateClient, evalsha, reaching_state
from app.state.keys import RUN_OWNERS, run_index, run_keys

LEASE_S: Final = 15.0
"""An owner that has not renewed its lease for so long counts as dead."""

PAUSED: Final = "needs_approval"
"""The status of a run that nobody has, and that is not over."""

UNDER_WAY: Final = frozenset({"queued", "running", PAUSED})
"""The statuses of runs that have not ended."""

TURNS_SEEN: Final = "turns_seen"
"""In the record of a run: how many turns its conversation had ever had when the run joined it."""

BEGAN_WITH: Final = "began_with"
"""In the record of a run, until it is over: strategy and options of one that takes back what it did, whatever its recipe says
by then."""

TAKEOVER_S: Final = 15.0
"""How long a run that somebody is to go on with may be without an owner: leases are looked after more often than that."""

_MARK_MS: Final = 60_000
_SUMMARY: Final = ("status", "strategy", "recipe", "created_at", "finished_at", "request")

Outcome = Literal["ok", "missing", "lost"]
Position = tuple[int, str]
"""Where a run stands in its tenant's index: the microsecond when it began, and its id."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose run it is."""

    tenant: str
    run_id: str
    owner: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was to know of a run when its event `seq` had come, as the JSON of a result."""

    seq: int
    result: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """One write of an owner. With neither events nor end it renews the lease.

    Parameters:
        record: the fields of a new record; None where it must be there.
        snapshot, drop_below: what is known at some event, and the number of the oldest event that is kept then.
        status, result: of a run that has ended, or is paused.
        keep_ms, events_keep_ms: how long the record and the events are kept from now on.
    """

    whose: Ownership
    keep_ms: int
    events_keep_ms: int
    events: Sequence[LoggedEvent] = ()
    record: Mapping[str, str | bytes] | None = None
    snapshot: Snapshot | None = None
    drop_below: int = 0
    status: str = ""
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class Appended:
    """What an owner is told: whether its write counted, whether somebody wants the run cancelled, and the seconds since a
    reader on another process was last seen (None: none was)."""

    outcome: Outcome
    cancel: bool = False
    reader_s: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands. `lease_left_s` is negative where its owner is dead; a `resumable` run may still find another one, and
    one from the queue (`queued`) does."""

    status: str
    epoch: int
    lease_left_s: float
    last_seq: int
    resumable: bool = False
    queued: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended: it waits, somebody runs it, or it is paused."""
        return self.status in UNDER_WAY

    @property
    def lost(self) -> bool:
        """Whether its owner is dead and nobody has taken it over in time."""
        if self.queued or self.status != "running":
            return False
        return self.lease_left_s <= (-TAKEOVER_S if self.resumable else 0)


@dataclass(frozen=True, slots=True)
class Record:
    """A run as it is listed. `request` is the JSON of what is known of its request, `result` that of its result at the end."""

    run_id: str
    status: str
    strategy: str
    recipe: str | None
    created_at: int
    finished_at: int | None = None
    request: bytes = b"{}"
    result: bytes | None = None


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A run that was taken over: the epoch of this ownership, and the number of the log's last event.

    `paused` says that nobody had it, so that nothing of it was under way; `before` is the JSON of what had come of it when it
    was last paused, empty if it never was; `cancelled` that somebody wants it to end.
    """

    epoch: int
    last_seq: int
    paused: bool
    before: bytes
    cancelled: bool


class RunRecords:
    """The stored runs. Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._append = state.script("run_append")
        self._look = state.script("run_look")
        self._lose = state.script("run_lose")
        self._close = state.script("run_close")
        self._cancel = state.script("run_cancel")
        self._take = state.script("run_take")
        self._delete = state.script("run_delete")

    async def append(self, writes: Sequence[Append]) -> list[Appended | None]:
        """What came of each of `writes`, sent together; None where Redis refused one.

        A write that may have been applied may be sent again.
        """
        with reaching_state():
            replies = await self._send(writes)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                await self._state.commands.script_load(self._append.script)
                replies = await self._send(writes)
        return [None if isinstance(reply, Exception) else _appended(reply) for reply in replies]

    async def _send(self, writes: Sequence[Append]) -> list[Any]:
        pipe = self._state.commands.pipeline(transaction=False)
        for write in writes:
            keys = run_keys(write.whose.tenant, write.whose.run_id)
            evalsha(pipe, self._append, [keys.record, keys.events, keys.steps, keys.signals], _arguments(write))
        return await pipe.execute(raise_on_error=False)

    async def enter(self, tenant: str, run_id: str, created_us: int, keep_s: int) -> None:
        """Put a run into its tenant's index, and drop from it what is not kept any more."""
        index = run_index(tenant)
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            pipe.zadd(index, {run_id: created_us})
            pipe.zremrangebyscore(index, "-inf", created_us - keep_s * 1_000_000)
            pipe.expire(index, keep_s)
            await pipe.execute()

    async def look(self, tenant: str, run_id: str, *, reading: bool = False) -> Standing | None:
        """How a run stands, None where it is not stored. `reading` notes that somebody reads it here."""
        with reaching_state():
            found = await self._look(keys=[run_keys(tenant, run_id).record], args=["1" if reading else "0"])
        if not found:
            return None
        return Standing(found[0].decode(), int(found[1]), found[2] / 1000, found[3], bool(found[4]), found[4] == 2)

    async def take(
        self, whose: tuple[str, str, str], resumable: str, *, keep_s: int, events_keep_s: int, seen: int | None = None
    ) -> TakenOver | None:
        """Begin a run that waits, or go on with one that another process has lost, or that is paused; None where there is none.

        Parameters:
            whose: tenant, run id, and the new owner.
            resumable: the digest of the request that has it.
            seen: how many turns its conversation had ever had when it joined it now.
        """
        tenant, run_id, owner = whose
        keys = run_keys(tenant, run_id)
        args = [owner, int(LEASE_S * 1000), keep_s * 1000, events_keep_s * 1000, resumable, "" if seen is None else seen]
        with reaching_state():
            found: Any = await self._take(keys=[keys.record, keys.events], args=args)
        return TakenOver(int(found[0]), int(found[1]), bool(found[2]), found[3], bool(found[4])) if found else None

    async def turns_seen(self, tenant: str, run_id: str) -> int | None:
        """How many turns its conversation had ever had when the run joined it; None where it did not, or is not kept."""
        with reaching_state():
            found = cast("bytes | None", await self._state.commands.hget(run_keys(tenant, run_id).record, TURNS_SEEN))
        return int(found) if found else None

    async def began_with(self, tenant: str, run_id: str) -> bytes:
        """The JSON of what a run began with that takes back what it did; empty of another, and where it is not kept."""
        with reaching_state():
            found = cast("bytes | None", await self._state.commands.hget(run_keys(tenant, run_id).record, BEGAN_WITH))
        return found or b""

    async def paused(self, tenant: str, run_id: str) -> tuple[Literal["kept", "deleted", "unknown"], bytes]:
        """Whether a run of that id is kept, and the JSON of what had come of it when it was last paused, empty if it never was
        or is over. That it was deleted is known for a minute."""
        with reaching_state():
            values: Any = await self._state.commands.hmget(run_keys(tenant, run_id).record, "status", "result", "paused")
        status, result, before = values
        if status in (None, b"deleted"):
            return "deleted" if status else "unknown", b""
        return "kept", (result if status == PAUSED.encode() else before) or b""

    async def close(
        self, tenant: str, run_id: str, epoch: int, event: tuple[str, bytes, bytes], end: tuple[str, bytes], events_keep_s: int
    ) -> bool:
        """End a run that waits or is paused. True where this call has done it.

        Parameters:
            epoch: the ownership that was seen to be over.
            event: the type of its last event, and its JSON before and after the number.
            end: its status and the JSON of its result.
        """
        keys = run_keys(tenant, run_id)
        args = [epoch, *event, *end, events_keep_s * 1000]
        with reaching_state():
            return bool(await self._close(keys=[keys.record, keys.events], args=args))

    async def events(self, tenant: str, run_id: str, after: int, *, most: int = 256, wait_s: float = 0) -> list[LoggedEvent]:
        """The events that follow number `after`; waits for the first of them up to `wait_s`."""
        key = run_keys(tenant, run_id).events
        with reaching_state():
            if not wait_s:
                return _events(await self._state.commands.xrange(key, f"({after}-0", "+", most))
            block = int(wait_s * 1000)
            found = cast("list[Any]", await self._state.blocking.xread({key: f"{after}-0"}, count=most, block=block))
        return _events(found[0][1] if found else [])

    async def last_event(self, tenant: str, run_id: str) -> LoggedEvent | None:
        with reaching_state():
            found = _events(await self._state.commands.xrevrange(run_keys(tenant, run_id).events, count=1))
        return found[0] if found else None

    async def snapshot(self, tenant: str, run_id: str) -> Snapshot | None:
        """What stands in for the events that are not kept any more."""
        with reaching_state():
            seq, result = await self._state.commands.hmget(run_keys(tenant, run_id).record, "snapshot_seq", "snapshot")
        return None if seq is None else Snapshot(int(seq), cast("bytes", result))

    async def lose(
        self, tenant: str, run_id: str, epoch: int, event: tuple[str, bytes, bytes], result: bytes, **at: int
    ) -> bool:
        """End a run whose owner is dead, as one of all who see it. True where this call has done it.

        Parameters:
            epoch: the ownership that was seen to be over.
            event: the type of its last event, and its JSON before and after the number.
            at: `after`, the number that the reader has come to, and `events_keep_ms`.
        """
        keys = run_keys(tenant, run_id)
        args = [epoch, at["after"], *event, result, at["events_keep_ms"]]
        with reaching_state():
            return bool(await self._lose(keys=[keys.record, keys.events], args=args))

    async def cancel(self, tenant: str, run_id: str) -> str | None:
        """Ask for the end of a run; None where it is not stored. Of one that is paused and ends itself, the digest of the
        request that has it, which is to be gone on with."""
        with reaching_state():
            args = [RUN_OWNERS, f"{tenant}:{run_id}"]
            digest = cast("bytes | None", await self._cancel(keys=[run_keys(tenant, run_id).record], args=args))
        return None if digest is None else digest.decode()

    async def ends_itself(self, tenant: str, run_id: str) -> bool:
        """Whether a run has not ended that takes back what it did before it does."""
        with reaching_state():
            found: Any = await self._state.commands.hmget(run_keys(tenant, run_id).record, "status", "ends_itself")
        return bool(found[1]) and found[0] in (b"running", PAUSED.encode())

    async def request_of(self, tenant: str, run_id: str) -> str | None:
        """The digest of the request that has the run, where it can be gone on with."""
        with reaching_state():
            found = cast("bytes | None", await self._state.commands.hget(run_keys(tenant, run_id).record, "resumable"))
        return found.decode() if found else None

    async def delete(self, tenant: str, run_id: str) -> bool:
        """Remove a run from the store. False where it was not there."""
        keys = run_keys(tenant, run_id)
        with reaching_state():
            found = await self._delete(keys=[keys.record, keys.events, keys.steps, keys.signals], args=[_MARK_MS])
            await self._state.commands.zrem(run_index(tenant), run_id)
        return bool(found)

    async def get(self, tenant: str, run_id: str) -> Record | None:
        """A run with its result."""
        with reaching_state():
            values: Any = await self._state.commands.hmget(run_keys(tenant, run_id).record, *_SUMMARY, "result")
        return _record(run_id, values)

    async def page(self, tenant: str, below: Position | None, most: int) -> list[tuple[Position, Record | None]]:
        """Up to `most` runs from the newest on, below a position of the index; None for one that has expired."""
        index = run_index(tenant)
        top: str | int = "+inf" if below is None else below[0]
        with reaching_state():
            found = cast(
                "list[tuple[bytes, float]]",
                await self._state.commands.zrevrangebyscore(index, top, "-inf", start=0, num=most + 16, withscores=True),
            )
            rows = [(member.decode(), int(score)) for member, score in found]
            rows = [(run_id, at) for run_id, at in rows if below is None or (at, run_id) < below][:most]
            pipe = self._state.commands.pipeline(transaction=False)
            for run_id, _ in rows:
                pipe.hmget(run_keys(tenant, run_id).record, *_SUMMARY)
            values = await pipe.execute() if rows else []
        return [((at, run_id), _record(run_id, value)) for (run_id, at), value in zip(rows, values, strict=True)]


def _arguments(write: Append) -> list[Any]:
    fields = [part for item in (write.record or {}).items() for part in item]
    snapshot = write.snapshot
    return [
        write.whose.owner,
        write.whose.epoch,
        int(LEASE_S * 1000),
        write.keep_ms,
        write.events_keep_ms,
        snapshot.seq if snapshot else "",
        snapshot.result if snapshot else "",
        write.drop_below,
        write.status,
        write.result,
        len(fields),
        *fields,
        *(part for event in write.events for part in (event.seq, event.type, event.data)),
    ]


def _appended(reply: Any) -> Appended:
    outcome, cancel, reader_ms = reply
    return Appended(cast("Outcome", outcome.decode()), bool(cancel), None if reader_ms < 0 else reader_ms / 1000)


def _events(entries: Any) -> list[LoggedEvent]:
    return [LoggedEvent(int(name.split(b"-")[0]), values[b"t"].decode(), values[b"d"]) for name, values in entries]


def _record(run_id: str, values: Sequence[bytes | None]) -> Record | None:
    status, strategy, recipe, created, finished, request = values[:6]
    if status is None or status == b"deleted":
        return None
    return Record(
        run_id,
        status.decode(),
        (strategy or b"").decode(),
        recipe.decode() if recipe else None,
        int(created or 0),
        int(finished) if finished else None,
        request or b"{}",
        values[6] if len(values) > 6 else None,
    )
