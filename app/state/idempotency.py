"""Requests that carry an idempotency key: who runs one, since when, and what was answered.

A record is `running` under a lease, or `done` with its answer. It belongs to the operation that began it, a call of `begin`, in
one epoch. Whoever finds a lease that has passed may take the request over, which counts the epoch up; from then on every write
of the operation before is refused. A record that was `dropped` leaves a mark for a while: what comes late finds that it was
there, which is not so where the whole store was emptied. One whose run was `deleted` leaves a mark until its key would have
expired. One whose run is `paused` has an answer that says so, and nobody runs it: its lease is how long the run waits, and who
finds that it has passed goes on with it. All times are the server's.
"""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from redis.exceptions import NoScriptError

from app.core.errors import StateUnavailable
from app.state.client import StateClient, evalsha, reaching_state
from app.state.keys import IDEMPOTENT_LEASES, idempotency_keys
from app.state.together import Together

LEASE_S: Final = 15.0
"""An owner that has not been heard of for so long counts as dead."""
DROPPED_S: Final = 5.0
"""How long the mark of a dropped request stays, for those who wait for its answer. Of one that was taken over it stays for as
long as the answer would have: the process that has lost it may come back any time."""
_AT_ONCE: Final = 1_024


@dataclass(frozen=True, slots=True)
class RequestId:
    """Which request: its tenant, and the digest of its route and key."""

    tenant: str
    digest: str

    @property
    def member(self) -> str:
        return f"{self.tenant}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: its fingerprint, the request as another process can run it, and its run's id."""

    fingerprint: str
    sealed: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Begun:
    """It is the caller's to run, by this operation, in this epoch, under this run id. `request` is what was stored when it
    first began; `waited_s` how long its run was paused until now."""

    operation: str
    epoch: int
    run_id: str
    request: str
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """It has been answered. `head` is the answer's head as it was stored, `scope` what a reader's key must allow."""

    head: bytes
    scope: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody runs it. `left_s` is what is left of the lease, in seconds."""

    left_s: float


@dataclass(frozen=True, slots=True)
class Paused:
    """Its run waits for a person. `head` is that of the answer which says so."""

    head: bytes
    scope: str
    run_id: str


Outcome = Begun | Answered | Busy | Paused | Literal["other", "absent", "deleted"]
"""`other`: the key was used for another request. `absent`: there is nothing to take over. `deleted`: with its run."""

Told = Literal["ok", "lost", "missing"]
"""What became of a `Write`. `lost`: the request is another operation's by now. `missing`: the store was emptied."""


@dataclass(frozen=True, slots=True)
class Write:
    """What is told of a request by who runs it.

    Parameters:
        operation, epoch: those of `Begun`.
        head: of the answer, once it is known; `scope` is what a reader's key must allow.
        first: the number of the first of `pieces`, from 1 on.
        end: `keep` stores the answer, `drop` forgets the request, so that it may be asked again; `pause` stores the answer
            until somebody goes on with the run, in `wait_s` seconds at the latest.
        keep_s: how long it is kept from now on.
        release: somebody else may go on with it, at once.
        again: where the store was emptied, what it is to know again; then `pieces` are all.
    """

    id: RequestId
    operation: str
    epoch: int
    keep_s: int
    head: bytes = b""
    scope: str = ""
    first: int = 1
    pieces: Sequence[bytes] = ()
    end: Literal["", "keep", "drop", "pause"] = ""
    wait_s: float = 0.0
    release: bool = False
    again: Asked | None = None


_NOTHING: Final = Asked("", "", "")


class IdempotencyRecords:
    """The stored requests. Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._together = Together(state)
        self._begin = state.script("idem_begin")
        self._write = state.script("idem_write")
        self._lease = state.script("idem_lease")
        self._due = state.script("idem_due")
        self._delete = state.script("idem_delete")
        self._resume = state.script("idem_resume")

    async def begin(self, request: RequestId, *, operation: str, keep_s: int, asked: Asked | None = None) -> Outcome:
        """Begin `request`, or learn what has become of it. Without `asked` only what is there is taken over.

        Parameters:
            operation: names this call; sent again with the same, it changes nothing.
        """
        keys = idempotency_keys(request.tenant, request.digest)
        lease_ms = int(LEASE_S * 1000)
        what = asked or _NOTHING
        args = [what.fingerprint, operation, lease_ms, keep_s * 1000, what.sealed, what.run_id]

        def queue(pipe: Any) -> None:
            evalsha(pipe, self._lease, [IDEMPOTENT_LEASES], [lease_ms, "NX", request.member])
            evalsha(pipe, self._begin, [keys.record, keys.body], args)

        _, found = await self._pipelined(queue)
        return _outcome(found, operation)

    async def write(self, writes: Sequence[Write]) -> list[Told]:
        """Tell of several requests at once. May be sent again."""

        def queue(pipe: Any) -> None:
            going = [write.id.member for write in writes if not write.end and not write.release]
            left = [write.id.member for write in writes if write.release]
            over = [write.id.member for write in writes if write.end in ("keep", "drop")]
            for write in writes:
                keys = idempotency_keys(write.id.tenant, write.id.digest)
                evalsha(pipe, self._write, [keys.record, keys.body], _arguments(write))
            if going:
                evalsha(pipe, self._lease, [IDEMPOTENT_LEASES], [int(LEASE_S * 1000), "CH", *going])
            if left:
                evalsha(pipe, self._lease, [IDEMPOTENT_LEASES], [0, "CH", *left])
            for write in writes:
                if write.end == "pause":
                    evalsha(pipe, self._lease, [IDEMPOTENT_LEASES], [int(write.wait_s * 1000), "CH", write.id.member])
            if over:
                pipe.zrem(IDEMPOTENT_LEASES, *over)

        replies = await self._pipelined(queue)
        told: list[Told] = [cast("Told", reply.decode()) for reply in replies[: len(writes)]]
        lost = [write.id for write, outcome in zip(writes, told, strict=True) if outcome == "lost"]
        if lost:  # their leases were somebody else's: have them looked at
            await self._look_after(lost, 0)
        return told

    async def delete(self, request: RequestId, run_id: str) -> None:
        """Remove what is stored of `request`, if that is still of the run `run_id`; its key is not run again."""
        keys = idempotency_keys(request.tenant, request.digest)
        with reaching_state():
            await self._delete(keys=[keys.record, keys.body], args=[run_id])

    async def resume(self, request: RequestId) -> Literal["due", "busy", "over"]:
        """Have a request that is paused be gone on with by whoever looks next. `busy`: somebody runs it."""
        keys = idempotency_keys(request.tenant, request.digest)
        with reaching_state():
            told = cast("bytes", await self._resume(keys=[keys.record])).decode()
        if told == "due":
            await self._look_after([request], 0)
        return cast('Literal["due", "busy", "over"]', told)

    async def due(self, most: int) -> list[RequestId]:
        """Requests whose lease has passed, `most` at most."""
        with reaching_state():
            members = cast("list[bytes]", await self._due(keys=[IDEMPOTENT_LEASES], args=[most]))
        return [RequestId(*member.decode().rsplit(":", 1)) for member in members]

    async def look_later(self, request: RequestId, after_s: float) -> None:
        """Somebody runs `request`, for `after_s` seconds at least."""
        await self._look_after([request], int(after_s * 1000))

    async def _look_after(self, requests: Sequence[RequestId], after_ms: int) -> None:
        with reaching_state():
            members = [request.member for request in requests]
            await self._lease(keys=[IDEMPOTENT_LEASES], args=[after_ms, "CH", *members])

    async def forget_leases(self, requests: Sequence[RequestId]) -> None:
        """Nobody needs to look after `requests` any more."""
        with reaching_state():
            await self._state.commands.zrem(IDEMPOTENT_LEASES, *(request.member for request in requests))

    async def pieces(self, request: RequestId, after: int, *, wait_s: float = 0) -> list[tuple[int, bytes]]:
        """The pieces of the answer that follow number `after`; waits for the first of them up to `wait_s`."""
        key = idempotency_keys(request.tenant, request.digest).body
        found: Any
        with reaching_state():
            if not wait_s:
                found = await self._state.commands.xrange(key, f"({after}-0", "+", _AT_ONCE)
            else:
                streams: Any = await self._state.blocking.xread({key: f"{after}-0"}, count=_AT_ONCE, block=int(wait_s * 1000))
                found = streams[0][1] if streams else []
        return [(int(name.split(b"-")[0]), values[b"d"]) for name, values in found]

    async def standing(self, request: RequestId) -> tuple[str, int, bytes, str]:
        """State (empty where nothing is known of it), epoch, head of the answer (empty before it), and the scope it needs."""
        key = idempotency_keys(request.tenant, request.digest).record
        with reaching_state():
            found: Any = await self._state.commands.hmget(key, "state", "epoch", "head", "scope")
        return (found[0] or b"").decode(), int(found[1] or 0), found[2] or b"", (found[3] or b"").decode()

    async def _pipelined(self, queue: Callable[[Any], None]) -> list[Any]:
        """The replies to what `queue` asks. Where they are lost it asks once more: all that is asked here may be repeated."""
        try:
            return await self._asked(queue)
        except StateUnavailable:
            return await self._asked(queue)

    async def _asked(self, queue: Callable[[Any], None]) -> list[Any]:
        with reaching_state():
            replies = await self._together.ask(queue)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                for script in (self._begin, self._write, self._lease):
                    await self._state.commands.script_load(script.script)
                replies = await self._together.ask(queue)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies


def _arguments(write: Write) -> list[Any]:
    lease_ms = 0 if write.release else int((write.wait_s if write.end == "pause" else LEASE_S) * 1000)
    keep_ms = write.keep_s * 1000
    mark_ms = int(DROPPED_S * 1000) if write.epoch == 1 else keep_ms
    what = write.again or _NOTHING
    head = (write.operation, write.epoch, lease_ms, keep_ms, write.head, write.scope, write.end, write.first)
    return [*head, what.fingerprint, what.sealed, what.run_id, mark_ms, *write.pieces]


def _outcome(found: Any, operation: str) -> Outcome:
    match found:
        case [b"run", epoch, run_id, request, waited_ms]:
            return Begun(operation, int(epoch), run_id.decode(), request.decode(), waited_ms / 1000)
        case [b"paused", head, scope, run_id]:
            return Paused(head, scope.decode(), run_id.decode())
        case [b"done", head, scope]:
            return Answered(head, scope.decode())
        case [b"busy", left_ms]:
            return Busy(left_ms / 1000)
        case [b"other"]:
            return "other"
        case [b"deleted"]:
            return "deleted"
        case _:
            return "absent"
