"""Whether a run may begin: limits and budgets, asked once before its calls and settled once after them.

A run under no limit of its tenant or key is not asked about, and Redis is not touched. While Redis is away, limits a minute and
of runs at once fall to this process's share of them; daily budgets, which must hold, refuse with `StateUnavailable`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass, field, replace
from math import ceil

import structlog

from app.core.budgets import AMOUNTS, DAILY, NOTHING, Amount, Claim, Limit, Quota, Verdict
from app.core.clock import Clock
from app.core.errors import BudgetExceeded, LimitExceeded, QuorumError, StateUnavailable
from app.observability import counting
from app.reliability.quotas import Counters
from app.state.ledger import LEASE_S, Ledger, RunOver

RENEW_S = LEASE_S / 6
RECHECK_S = 1.0
"""While Redis is away, one run in so many seconds tries it; the others do not wait for it."""
MOST_UNSETTLED = 10_000
"""Runs whose settlement is kept for later. Of those beyond it the oldest stay booked at their worst case."""

_log = structlog.get_logger("quorum.admission")


@dataclass(slots=True, eq=False)
class Permit:
    """An admitted run. `granted` is what it may use, `quotas` how its caller's limits stand.

    A permit whose run never begins is given back after a lease.
    """

    claim: Claim
    granted: Amount
    quotas: tuple[Quota, ...]
    local: bool
    taken_at: float
    _admission: Admission
    begun: bool = False
    over: bool = False

    def begin(self) -> None:
        self.begun = True

    async def settle(self, used: Amount) -> None:
        """The run is over and used this much. Said again it does nothing. Where Redis does not answer it is told later."""
        await self._admission.settle(self, used)

    def settle_later(self, used: Amount) -> None:
        """The same for who cannot wait, as one who is being cancelled."""
        self._admission.settle_later(self, used)

    def leave(self) -> None:
        """Another process goes on with the run: what is reserved is that one's to settle."""
        self._admission.leave(self)


@dataclass(slots=True)
class _Unsettled:
    claim: Claim
    used: Amount
    local: bool


@dataclass(slots=True)
class Admission:
    """Admits runs and settles them. `start` renews the permits of runs under way until `close`.

    Parameters:
        ledger: what is used over all replicas.
        local_share: the share of a limit that this process allows by itself while Redis is away.
    """

    ledger: Ledger
    clock: Clock
    local_share: float = 1.0
    _local: Counters = field(default_factory=lambda: Counters(lease_s=LEASE_S))
    _open: dict[str, Permit] = field(default_factory=dict[str, Permit])
    _unsettled: deque[_Unsettled] = field(default_factory=lambda: deque[_Unsettled](maxlen=MOST_UNSETTLED))
    _away_until: float = 0.0
    _task: asyncio.Task[None] | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def admit(self, claim: Claim) -> Permit:
        """Reserve what `claim` asks for.

        Raises:
            BudgetExceeded: a daily budget has not enough left.
            LimitExceeded: another limit stands against it.
            StateUnavailable: Redis is away, and a daily budget applies.
        """
        try:
            verdict, local = await self._asked(claim)
        except RunOver:  # who had the run before has settled its own part; this is another
            claim = replace(claim, operation=f"{claim.operation}:{secrets.token_hex(4)}")
            verdict, local = await self._asked(claim)
        if verdict.refused_by is not None:
            limit = verdict.refused_by
            counting.run_refused(limit)
            _log.info("run refused", run_id=claim.operation, tenant=claim.tenant, scope=limit.scope, limit=limit.kind)
            raise refusal(verdict, claim)
        return self._opened(claim, verdict, local=local)

    async def anyway(self, claim: Claim) -> Permit:
        """Count, under the limits of tokens and dollars of `claim`, what a run uses that none of them may refuse.

        Raises:
            StateUnavailable: Redis is away.
        """
        limits = tuple(limit for limit in claim.limits if limit.kind in AMOUNTS)
        counted = Claim(f"{claim.operation}:anyway", claim.tenant, limits, NOTHING)
        try:
            verdict = await self.ledger.anyway(counted)
        except RunOver:  # as above
            counted = replace(counted, operation=f"{counted.operation}:{secrets.token_hex(4)}")
            verdict = await self.ledger.anyway(counted)
        return self._opened(counted, verdict, local=False)

    async def beside(self, claim: Claim, amount: Amount) -> Permit | None:
        """Reserve `amount` for a call that the plan of an admitted run does not hold, under its limits of tokens and dollars.

        None where one of them stands against it, or cannot be asked. The permit has begun; it is settled by itself.
        """
        limits = tuple(limit for limit in claim.limits if limit.kind in AMOUNTS)
        more = Claim(f"{claim.operation}:{secrets.token_hex(4)}", claim.tenant, limits, amount)
        try:
            verdict, local = await self._asked(more)
        except StateUnavailable:
            return None
        if verdict.refused_by is not None:
            return None
        permit = self._opened(more, verdict, local=local)
        permit.begin()
        return permit

    async def would(self, claim: Claim) -> Verdict:
        """What `admit` would find now. Nothing is reserved.

        Raises:
            StateUnavailable: as for `admit`.
        """
        verdict, _ = await self._asked(claim, dry=True)
        return verdict

    async def settle(self, permit: Permit, used: Amount) -> None:
        """As `Permit.settle`."""
        unsettled = self._ended(permit, used)
        if unsettled is None:
            return
        told = False
        try:
            told = await self._settled(unsettled)
        finally:
            if not told:  # Redis is away, or the run is cancelled while it waits for it
                self._queue(unsettled)

    def settle_later(self, permit: Permit, used: Amount) -> None:
        """As `Permit.settle_later`."""
        unsettled = self._ended(permit, used)
        if unsettled:
            self._queue(unsettled)

    def leave(self, permit: Permit) -> None:
        """As `Permit.leave`."""
        unsettled = self._ended(permit, NOTHING)
        if unsettled and unsettled.local:
            self._queue(unsettled)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="permits")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._flush()

    async def _asked(self, claim: Claim, *, dry: bool = False) -> tuple[Verdict, bool]:
        if self._may_ask():
            try:
                verdict = await self.ledger.admit(claim, dry=dry, once=bool(self._away_until))
            except RunOver:
                raise
            except BaseException as error:
                if not dry:  # it may have been taken all the same, also where nobody waits any more
                    self._queue(_Unsettled(claim, NOTHING, local=False))
                if not isinstance(error, StateUnavailable):
                    raise
                self._note_away()
            else:
                self._away_until = 0.0
                return verdict, False
        if any(limit.kind in DAILY for limit in claim.limits):
            raise StateUnavailable("the state store is away and a daily budget cannot be checked without it; try again shortly")
        shared = replace(claim, limits=tuple(self._share(limit) for limit in claim.limits))
        verdict = self._local.admit(shared, round(self.clock.now() * 1_000_000), dry=dry)
        if verdict is None:
            raise StateUnavailable("the run is over already")
        return verdict, True

    def _opened(self, claim: Claim, verdict: Verdict, *, local: bool) -> Permit:
        permit = Permit(claim, verdict.granted, verdict.quotas, local, self.clock.monotonic(), self)
        self._open[claim.operation] = permit
        counting.reserved(verdict.granted)
        return permit

    def _may_ask(self) -> bool:
        """Whether Redis is to be asked. While it is away one asks every `RECHECK_S`, and nobody else waits for that."""
        now = self.clock.monotonic()
        if now < self._away_until:
            return False
        if self._away_until:
            self._away_until = now + RECHECK_S
        return True

    def _note_away(self) -> None:
        self._away_until = self.clock.monotonic() + RECHECK_S

    def _share(self, limit: Limit) -> Limit:
        return replace(limit, size=max(1, ceil(limit.size * self.local_share)))

    def _ended(self, permit: Permit, used: Amount) -> _Unsettled | None:
        if permit.over:
            return None
        permit.over = True
        self._open.pop(permit.claim.operation, None)
        counting.settled(permit.granted, used)
        return _Unsettled(permit.claim, used, permit.local)

    def _queue(self, unsettled: _Unsettled) -> None:
        self._unsettled.append(unsettled)
        self._wake.set()

    async def _settled(self, unsettled: _Unsettled) -> bool:
        claim = unsettled.claim
        if unsettled.local:
            shared = replace(claim, limits=tuple(self._share(limit) for limit in claim.limits))
            self._local.settle(shared, unsettled.used, round(self.clock.now() * 1_000_000))
            return True
        if not self._may_ask():
            return False
        try:
            await self.ledger.settle(claim, unsettled.used)
        except StateUnavailable:
            self._note_away()
            return False
        self._away_until = 0.0
        return True

    async def _keep(self) -> None:
        """Renew what runs, give back what never began, and tell what could not be told before."""
        renewed = self.clock.monotonic()
        while True:
            waits_s = RECHECK_S if self._unsettled else RENEW_S
            try:
                async with asyncio.timeout(waits_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._flush()
                if self.clock.monotonic() - renewed >= RENEW_S:
                    renewed = self.clock.monotonic()
                    await self.renew()
            except QuorumError as error:
                _log.warning("permits could not be renewed", reason=error.message)

    async def _flush(self) -> None:
        for _ in range(len(self._unsettled)):
            unsettled, told = self._unsettled.popleft(), False
            try:
                told = await self._settled(unsettled)
            finally:
                if not told:
                    self._unsettled.appendleft(unsettled)
            if not told:
                return

    async def renew(self) -> None:
        """Renew the permits of runs under way, and give back those whose run has not begun within a lease."""
        now = self.clock.monotonic()
        for permit in list(self._open.values()):
            if not permit.begun and now - permit.taken_at > LEASE_S:
                self.settle_later(permit, NOTHING)
            elif permit.over or not any(limit.kind == "concurrent_runs" for limit in permit.claim.limits):
                continue
            elif permit.local:
                self._local.renew(permit.claim, round(self.clock.now() * 1_000_000))
            else:
                await self.ledger.renew(permit.claim)


def refusal(verdict: Verdict, claim: Claim) -> BudgetExceeded | LimitExceeded:
    """The error that says why a run is not admitted, and when it may be."""
    limit = verdict.refused_by
    if limit is None:
        raise ValueError("nothing stands against the run")
    quota = next(quota for quota in verdict.quotas if quota.limit == limit)
    whose = "the tenant" if limit.scope == "tenant" else "this key"
    least = claim.ask if claim.least is None else claim.least
    wait = verdict.retry_after_s
    tokens = f"the run may use {limit.needs(least):,} tokens and {whose} has {quota.remaining:,} left of {limit.size:,}"
    match limit.kind:
        case "usd_per_day":
            left, need, size = (Amount(0, value).usd for value in (quota.remaining, limit.needs(least), limit.size))
            message = f"the run may cost ${need:.6f} and {whose} has ${left:.6f} left of ${size:.2f} a day"
        case "tokens_per_day":
            message = f"{tokens} a day"
        case "tokens_per_minute":
            message = f"{tokens} a minute"
        case "requests_per_minute":
            message = f"{whose} may make {limit.size:,} requests a minute, and has"
        case "concurrent_runs":
            message = f"{whose} may have {limit.size:,} runs at once, and has"
    if limit.kind in AMOUNTS:
        message += "; ask for less (max_tokens, fewer models)" + ("" if wait is None else " or later")
    if limit.kind in DAILY or wait is None:
        return BudgetExceeded(message, retry_after=wait, quotas=verdict.quotas)
    return LimitExceeded(message, retry_after=wait, quotas=verdict.quotas)
