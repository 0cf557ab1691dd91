"""The approvals of all tenants: people list, read and decide them, and the runs that waited go on."""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog

from app.config.tools import ApprovalsConfig
from app.core.approvals import REVIEW, Approval
from app.core.audit import SERVICE, Act, Recorder
from app.core.clock import Clock
from app.core.errors import ConflictError, Forbidden, InvalidRequest, NotFound, QuorumError, StateUnavailable
from app.core.json_schemas import compiled
from app.core.principal import LOCAL, Principal
from app.core.runs import OrchestrationOutput, RunRequest
from app.observability import metrics
from app.orchestration.approving.asking import RunApprovals, note_decided
from app.orchestration.approving.entries import Asked, Decision, DecisionKind, Entry, bound_to, expired, read_asked, withdrawn
from app.orchestration.learning.taught import Taught
from app.orchestration.paging import Page, paged
from app.state.approvals import ApprovalStore, Queue, Ready, StoredApproval
from app.state.flusher import Flusher
from app.tools.execution import checked
from app.tools.toolbox import Toolbox

LATEST: Final = "latest"
LOOK_S: Final = 4.0
"""How often one looks for runs that may go on and that nobody has gone on with: as often as for those of dead processes."""
_ID: Final = re.compile(r"apr_[0-9a-f]{24}")

_log = structlog.get_logger("quorum.approvals")


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision as somebody takes it. `hash` is what they have seen, if they say; `operation` is the same when it is only told
    again."""

    decision: DecisionKind
    arguments: Mapping[str, Any] | None = None
    reason: str | None = None
    approver: str | None = None
    hash: str | None = None
    request_id: str = ""
    operation: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which approvals are listed."""

    status: str | None = None
    run_id: str | None = None
    tool: str | None = None

    def takes(self, asked: Asked) -> bool:
        approval = asked.approval
        named = ((self.status, approval.status), (self.run_id, approval.run_id), (self.tool, approval.tool))
        return all(wanted in (None, own) for wanted, own in named)


@dataclass(frozen=True, slots=True)
class _Over:
    """What is to be withdrawn: all that a run still waits for, or one `approval_id` of a run that may go on; `digest` is then
    that of its request."""

    tenant: str
    run_id: str
    approval_id: str = ""
    digest: str = ""


class Approvals:
    """What is asked of people. Its methods raise `StateUnavailable` while Redis is away.

    Parameters:
        config: in force now; may be replaced.
        resume: has somebody go on with a run; False where that is to be tried again.
    """

    def __init__(
        self,
        store: ApprovalStore,
        clock: Clock,
        config: ApprovalsConfig,
        recorder: Recorder,
        toolbox: Toolbox,
        resume: Callable[[Ready], Awaitable[bool]],
    ) -> None:
        self.config = config
        self._store = store
        self._clock = clock
        self._recorder = recorder
        self._toolbox = toolbox
        self._resume = resume
        self._ended: deque[_Over] = deque()
        self._flusher = Flusher("approvals", self.flush)
        self._looker = Flusher("approved runs", self.look, every_s=LOOK_S)

    def start(self) -> None:
        self._flusher.start()
        self._looker.start()

    async def close(self) -> None:
        await self._looker.close()
        await self._flusher.close()

    def of_run(self, digest: str, before: OrchestrationOutput | None = None) -> RunApprovals:
        """What a run asks with. `before` is what had come of it when it was last paused."""
        known = before.approvals if before else ()
        return RunApprovals(self._store, self._clock, self.config, self._recorder, digest, self._given_up, known)

    def _given_up(self, tenant: str, approval: Approval, digest: str) -> None:
        self._ended.append(_Over(tenant, approval.run_id, approval.id, digest))
        self._flusher.hurry()

    def over(self, tenant: str, run_id: str) -> None:
        """A run has ended: what it still asked for is withdrawn soon."""
        self._ended.append(_Over(tenant, run_id))
        self._flusher.hurry()

    def ended(self, request: RunRequest, result: OrchestrationOutput, taught: Taught | None, category: str | None) -> None:
        """A run has ended (an `Observer`): what it still asked for is withdrawn."""
        if any(one.status == "withdrawn" for one in result.approvals):
            self.over(request.tenant, result.id)

    async def flush(self) -> None:
        """Withdraw what nobody waits for any more; what Redis does not take waits on, and expires at last."""
        while self._ended:
            try:
                await self._withdraw(self._ended[0])
            except StateUnavailable:
                return
            self._ended.popleft()

    async def look(self) -> None:
        """Go on with runs that wait for nothing any more though nobody has, and tell how many approvals are pending."""
        try:
            depth = await self._store.depth()
            metrics.APPROVALS_PENDING.set(depth.pending)
            metrics.APPROVAL_OLDEST.set(max(0.0, self._clock.now() - depth.oldest) if depth.oldest else 0.0)
            for ready in await self._store.ready():
                await self._go_on(ready)
        except StateUnavailable:
            return

    async def read(self, tenant: str, name: str) -> Asked:
        """An approval by its id; `latest` is the newest that is pending, else the newest.

        Raises:
            NotFound: there is none of `tenant`.
        """
        if name == LATEST:
            return await self._latest(tenant)
        stored = await self._store.get(tenant, name) if _ID.fullmatch(name) else None
        if stored is None:
            raise _unknown(name)
        return read_asked(stored, self._clock.now())

    async def page(self, tenant: str, wanted: Filter, *, cursor: str | None, limit: int) -> Page[Asked]:
        """Up to `limit` approvals, the newest first. With a filter a page may hold fewer although another one follows.

        Raises:
            InvalidRequest: the cursor is none of ours.
        """
        queues: tuple[Queue, ...] = ("pending",) if wanted.status == "pending" else ("pending", "decided")

        async def shown(stored: StoredApproval) -> Asked | None:
            asked = read_asked(stored, self._clock.now())
            return asked if wanted.takes(asked) else None

        return await paged(cursor, limit, partial(self._store.page, tenant, queues), shown)

    async def decide(self, who: Principal, entry: Entry, decided: Decided) -> Asked:
        """Decide an approval, once, and have its run go on where it waits for no other.

        Raises:
            ConflictError: it was decided before, has expired, or is for another call than who decides has seen.
            Forbidden: who asked may not decide, where there are keys by which to tell.
            InvalidRequest: the arguments of an edit do not fit the tool.
        """
        approval = entry.approval
        if not self.config.by_asker and who != LOCAL and who.key_id == entry.key_id:
            raise Forbidden(f"the key {who.name!r} has asked for it, and another one is to decide (approvals.by_asker)")
        if decided.hash not in (None, approval.hash):
            raise ConflictError(f"{approval.id} is for another call than {str(decided.hash)[:64]!r}", param="hash")
        arguments = self._edited(entry, decided.arguments) if decided.arguments is not None else None
        bound = bound_to(entry, arguments)
        decision = Decision(
            decided.decision,
            self._clock.now(),
            who.name,
            who.key_id,
            bound,
            arguments,
            decided.reason,
            decided.approver,
            decided.request_id,
            decided.operation or secrets.token_hex(8),
        )
        ready = Ready(who.tenant, approval.run_id, entry.digest)
        outcome, stored, goes_on = await self._store.decide(ready, approval.id, decision.as_json(), decision.operation)
        if stored is None:
            raise _unknown(approval.id)
        asked = read_asked(stored, self._clock.now())
        if outcome == "expired":
            raise ConflictError(f"{approval.id} has expired: its call is not made", param="id")
        if outcome == "decided" and asked.decision:
            before = asked.decision
            message = f"{approval.id} was decided already: {before.decision!r} by {before.approver or before.by!r}"
            raise ConflictError(message, param="id")
        if asked.decision and asked.decision.at == decision.at:
            note_decided(decided.decision, decision.at - approval.created_at)
        if goes_on:
            try:
                await self._go_on(ready)
            except StateUnavailable as error:
                _log.warning("a run goes on later", run_id=approval.run_id, reason=error.message)
        return asked

    def _edited(self, entry: Entry, arguments: Mapping[str, Any]) -> dict[str, Any]:
        approval = entry.approval
        if approval.tool == REVIEW:
            return _reviewed(approval, arguments)
        try:
            tool = self._toolbox.find(f"{approval.tool}@{approval.version}")
        except QuorumError as error:
            raise InvalidRequest(f"the arguments cannot be checked: {error.message}", param="arguments") from None
        return checked(tool, dict(arguments), self._toolbox.config.max_arguments_bytes)

    async def standing(self, tenant: str, approvals: Iterable[Approval]) -> tuple[Approval, ...]:
        """How `approvals` stand by now."""
        found: list[Approval] = []
        for one in approvals:
            stored = await self._store.get(tenant, one.id)
            found.append(one if stored is None else read_asked(stored, self._clock.now()).approval)
        return tuple(found)

    async def _withdraw(self, over: _Over) -> None:
        now = self._clock.now()
        decisions = withdrawn(now).as_json(), expired(now).as_json()
        ready = Ready(over.tenant, over.run_id, over.digest)
        for stored in await self._store.withdraw(ready, decisions, over.approval_id):
            entry = read_asked(stored, now).entry
            approval = entry.approval
            metrics.APPROVALS_DECIDED.labels("withdraw").inc()
            act = Act(
                tenant=over.tenant,
                actor=SERVICE,
                action="approval.decide",
                subject_kind="approval",
                subject=approval.id,
                run_id=approval.run_id,
                request_id=entry.request_id or None,
            )
            self._recorder.note(act, "withdrawn", {"tool": f"{approval.tool}@{approval.version}"})

    async def forget(self, tenant: str, run_id: str) -> None:
        """A run was deleted: nothing is kept of what it asked for."""
        await self._store.forget(tenant, run_id)

    async def closed(self, tenant: str, run_id: str) -> None:
        """A run was ended while it was paused: nobody is asked any more, and its request is answered."""
        digest = await self._digest_of(tenant, run_id)
        await self._withdraw(_Over(tenant, run_id))
        if digest:
            await self._resume(Ready(tenant, run_id, digest))

    async def _digest_of(self, tenant: str, run_id: str) -> str:
        for approval_id in await self._store.ids_of(tenant, run_id):
            stored = await self._store.get(tenant, approval_id)
            if stored is not None:
                return read_asked(stored, 0).entry.digest
        return ""

    async def _go_on(self, ready: Ready) -> None:
        if await self._resume(ready):
            await self._store.gone_on(ready)

    async def _latest(self, tenant: str) -> Asked:
        for status in ("pending", None):
            page = await self.page(tenant, Filter(status), cursor=None, limit=1)
            if page.found:
                return page.found[0]
        raise NotFound("nothing was asked for: a call is that a permission has approved, or `options.approval`", param="id")


def _reviewed(approval: Approval, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a review with the value that a person has put in place of its own.

    Raises:
        InvalidRequest: it does not fit.
    """
    if set(arguments) != {"value"}:
        raise InvalidRequest("arguments: an edit of a review is {'value': ...}", param="arguments")
    schema = approval.arguments.get("schema")
    fault = None if schema is None else compiled(schema).first_fault(arguments["value"])
    if fault is not None:
        where = ".".join(("arguments", "value", *map(str, fault.path)))
        raise InvalidRequest(f"{where}: {fault.message}", param=where)
    return {**approval.arguments, "value": arguments["value"]}


def _unknown(name: str) -> NotFound:
    return NotFound(f"no approval {name[:50]!r} is kept; GET /v1/approvals lists those that are", param="id")
