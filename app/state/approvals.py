"""The approvals of each tenant, in one slot: what was asked, what was decided of it, and which runs may go on."""

# pyright: reportUnknownMemberType=false
# (the keyword arguments of redis-py have no types)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from app.core.errors import Gone, StateUnavailable
from app.state.client import StateClient, reaching_state
from app.state.indices import Depth, Position, depth_of, newest
from app.state.keys import APPROVING, ApprovalKeys, approval_keys, approvals_of_run

Queue = Literal["pending", "decided"]
_MARK_MS: Final = 3_600_000
"""How long it is known that a run was deleted: far longer than a process that has stopped answering may come back to it."""
Used = Literal["ok", "used", "unbound"]
"""`used`: by another call. `unbound`: the approval was not given, or not for this call."""


@dataclass(frozen=True, slots=True)
class StoredApproval:
    """An approval and its decision, as JSON; `decision` is empty while it is pending. `expires_ms` is by the server's clock."""

    entry: bytes
    expires_ms: int
    decision: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking for one: whether it is `new`, and whether it was found `expired` by this very call."""

    stored: StoredApproval
    new: bool
    expired: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """A run that waits for none of its approvals any more. `digest` names its request."""

    tenant: str
    run_id: str
    digest: str


class ApprovalStore:
    """Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient) -> None:
        self._state = state
        self._ask = state.script("approval_ask")
        self._decide = state.script("approval_decide")
        self._use = state.script("approval_use")
        self._forget = state.script("approval_forget")
        self._withdraw = state.script("approval_withdraw")

    async def ask(
        self, tenant: str, run_id: str, entry: tuple[str, bytes], expired: bytes, *, expire_s: int, keep_s: int
    ) -> Asked:
        """Ask for an approval, or learn what became of it. May be sent again, and is where the reply was lost.

        Parameters:
            entry: its id, and its JSON.
            expired: the decision that stands where nobody took one in time.

        Raises:
            Gone: the run was deleted.
        """
        args = [*entry, expire_s * 1000, keep_s * 1000, run_id, expired]
        try:
            return await self._asked(tenant, run_id, args)
        except StateUnavailable:
            return await self._asked(tenant, run_id, args)

    async def _asked(self, tenant: str, run_id: str, args: Sequence[Any]) -> Asked:
        with reaching_state():
            await self._state.commands.sadd(APPROVING, tenant)
            reply: Any = await self._ask(keys=_all(tenant, run_id), args=args)
        if not reply:
            raise Gone(f"{run_id} was deleted")
        return Asked(StoredApproval(reply[2], reply[1], reply[3]), bool(reply[0]), bool(reply[4]))

    async def decide(
        self, ready: Ready, approval_id: str, decision: bytes, operation: str
    ) -> tuple[Literal["missing", "decided", "expired", "ok"], StoredApproval | None, bool]:
        """Decide one that is pending. Told again with the same `operation` it is `ok` again. The last says whether its run
        waits for none any more, so that somebody is to go on with it."""
        args = [approval_id, decision, operation, ready.run_id, ready.digest]
        with reaching_state():
            reply: Any = await self._decide(keys=_all(ready.tenant, ready.run_id), args=args)
        if len(reply) == 1:
            return "missing", None, False
        return reply[0].decode(), StoredApproval(*reply[1:4]), bool(reply[4])

    async def use(self, tenant: str, approval_id: str, bound: str, operation: str, *, keep_s: int) -> Used:
        """Use one, once, for the call with the hash `bound`. May be sent again, and is where the reply was lost."""
        keys = approval_keys(tenant)
        args = [approval_id, bound, operation, keep_s * 1000]

        async def used() -> Used:
            with reaching_state():
                return cast("Used", (await self._use(keys=[keys.decisions, keys.used], args=args)).decode())

        try:
            return await used()
        except StateUnavailable:
            return await used()

    async def withdraw(self, ready: Ready, decisions: tuple[bytes, bytes], only: str = "") -> list[StoredApproval]:
        """Withdraw what a run that has ended was waiting for; or `only` one, after which its run may be ready. What it was.

        Parameters:
            decisions: those that stand then, of what was pending and of what had expired.
        """
        args = [ready.run_id, *decisions, only, ready.digest]
        with reaching_state():
            entries: Any = await self._withdraw(keys=_all(ready.tenant, ready.run_id), args=args)
        return [StoredApproval(entry, 0, decisions[0]) for entry in entries]

    async def forget(self, tenant: str, run_id: str) -> None:
        """Remove what a run has asked for, and what was decided; it can ask for nothing more. That it was used stays known."""
        with reaching_state():
            await self._forget(keys=_all(tenant, run_id), args=[run_id, _MARK_MS])

    async def ids_of(self, tenant: str, run_id: str) -> list[str]:
        """The approvals that a run has asked for."""
        with reaching_state():
            found: Any = await self._state.commands.smembers(approvals_of_run(tenant, run_id))
        return [approval_id.decode() for approval_id in found]

    async def get(self, tenant: str, approval_id: str) -> StoredApproval | None:
        return (await self._read(approval_keys(tenant), [approval_id]))[0]

    async def page(
        self, tenant: str, queues: Sequence[Queue], below: Position | None, most: int
    ) -> list[tuple[Position, StoredApproval | None]]:
        """Up to `most` approvals that were asked for before `below`, the newest first; None in place of one that has gone."""
        keys = approval_keys(tenant)
        places = await newest(self._state, [getattr(keys, queue) for queue in queues], below, most)
        stored = await self._read(keys, [approval_id for _, approval_id in places])
        return list(zip(places, stored, strict=True))

    async def ready(self) -> list[Ready]:
        """The runs, of all tenants, that wait for none of their approvals any more, and that nobody has gone on with yet."""
        tenants = await self._tenants()
        if not tenants:
            return []
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            for tenant in tenants:
                pipe.hgetall(approval_keys(tenant).ready)
            replies: list[dict[bytes, bytes]] = await pipe.execute()
        return [
            Ready(tenant, run_id.decode(), digest.decode())
            for tenant, found in zip(tenants, replies, strict=True)
            for run_id, digest in found.items()
        ]

    async def gone_on(self, ready: Ready) -> None:
        """Somebody has gone on with a run, or nobody can."""
        with reaching_state():
            await self._state.commands.hdel(approval_keys(ready.tenant).ready, ready.run_id)

    async def depth(self) -> Depth:
        """How many are pending, over all tenants."""
        return await depth_of(self._state, [approval_keys(tenant).pending for tenant in await self._tenants()])

    async def _tenants(self) -> list[str]:
        with reaching_state():
            found: Any = await self._state.commands.smembers(APPROVING)
        return [tenant.decode() for tenant in found]

    async def _read(self, keys: ApprovalKeys, ids: Sequence[str]) -> list[StoredApproval | None]:
        if not ids:
            return []
        with reaching_state():
            pipe = self._state.commands.pipeline(transaction=False)
            for key in (keys.entries, keys.expiries, keys.decisions):
                pipe.hmget(key, list(ids))
            replies: list[list[bytes | None]] = await pipe.execute()
        return [
            None if entry is None else StoredApproval(entry, int(expires or 0), decision or b"")
            for entry, expires, decision in zip(*replies, strict=True)
        ]


def _all(tenant: str, run_id: str) -> list[str]:
    keys = approval_keys(tenant)
    run = approvals_of_run(tenant, run_id)
    return [keys.entries, keys.decisions, keys.pending, keys.decided, keys.expiries, keys.ready, run]
