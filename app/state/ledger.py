"""What tenants and keys have used of their limits: one Redis for all replicas, decided in Lua with its own clock.

A run reserves its worst case before anything is called and settles what it really used when it is over. Both name the run's id,
so that either may be sent again when its reply is lost. A run that is never settled (its worker died) keeps its whole worst
case booked, since nobody knows what it spent; only its permit to run beside others expires.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import orjson
from pydantic import TypeAdapter

from app.core.budgets import NOTHING, Amount, Claim, Quota, Verdict
from app.core.errors import StateUnavailable
from app.state.client import StateClient, reaching_state
from app.state.keys import admission_record, limit_use

LEASE_S: Final = 30.0
"""Seconds after which a run that is not renewed no longer counts as running."""

_OVER: Final = 2
_HEAD: Final = 5  # of a reply: outcome, nano-dollars, tokens, refusing limit, ms to wait


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a run used of what was reserved under its claim. Who made it need not live to book it."""

    claim: Claim
    used: Amount

    def packed(self) -> bytes:
        return orjson.dumps(self)

    @staticmethod
    def unpacked(packed: bytes) -> Settlement:
        return _SETTLEMENT.validate_json(packed)


_SETTLEMENT: Final = TypeAdapter(Settlement)


class RunOver(StateUnavailable):
    """The run was settled before it was admitted: by who had it and let go of it, or because the reply came too late."""


class Ledger:
    """The store of limits. Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient, *, lease_s: float = LEASE_S) -> None:
        self._admit = state.script("admit")
        self._settle = state.script("settle")
        self._renew = state.script("renew")
        self._lease_ms = round(lease_s * 1000)

    async def admit(self, claim: Claim, *, dry: bool = False, once: bool = False) -> Verdict:
        """Reserve what `claim` asks for; with `dry` only say whether it would be admitted.

        Parameters:
            once: do not send it again where its reply is lost: for who only tries whether Redis is back.

        Raises:
            RunOver: nothing can be reserved under this operation any more.
        """
        keys, arguments = self.admission(claim, how="dry" if dry else "")
        return self.verdict(claim, await _sent(self._admit, keys, arguments, once=once))

    async def anyway(self, claim: Claim) -> Verdict:
        """Reserve what `claim` asks for, whatever stands against it.

        Raises:
            RunOver: as `admit`.
        """
        keys, arguments = self.admission(claim, how="anyway")
        return self.verdict(claim, await _sent(self._admit, keys, arguments))

    def admission(self, claim: Claim, *, how: Literal["", "dry", "anyway"] = "") -> tuple[list[str], list[Any]]:
        """The keys and arguments of the script `admit`, for who sends it in one pipeline with other things."""
        least = claim.ask if claim.least is None else claim.least
        return _keys(claim), [
            claim.operation,
            self._lease_ms,
            how,
            claim.ask.nano_usd,
            claim.ask.tokens,
            least.nano_usd,
            least.tokens,
            *_limits(claim),
        ]

    def verdict(self, claim: Claim, reply: Sequence[int]) -> Verdict:
        """What the script's reply says."""
        outcome, nano_usd, tokens, refused, wait_ms = reply[:_HEAD]
        if outcome == _OVER:
            raise RunOver("the run was given up while the state store did not answer; try again")
        standing = zip(reply[_HEAD::2], reply[_HEAD + 1 :: 2], strict=True)
        quotas = tuple(
            Quota(limit, left, None if resets_ms < 0 else resets_ms / 1000)
            for limit, (left, resets_ms) in zip(claim.limits, standing, strict=True)
        )
        if refused:
            return Verdict(NOTHING, quotas, claim.limits[refused - 1], None if wait_ms < 0 else wait_ms / 1000)
        return Verdict(Amount(tokens, nano_usd), quotas)

    async def settle(self, claim: Claim, used: Amount) -> bool:
        """Book what the run used and give the rest back. False where that was done before, or nothing had been reserved."""
        keys, arguments = self.settlement(claim, used)
        return bool(await _sent(self._settle, keys, arguments))

    def settlement(self, claim: Claim, used: Amount) -> tuple[list[str], list[Any]]:
        """The keys and arguments of the script `settle`, for who sends it in one pipeline with other things."""
        return _keys(claim), [claim.operation, used.nano_usd, used.tokens, *_limits(claim)]

    async def renew(self, claim: Claim) -> bool:
        """Keep the run counted as running. False where it is over."""
        running = [limit for limit in claim.limits if limit.kind == "concurrent_runs"]
        keys = [admission_record(claim.tenant, claim.operation)]
        keys += [limit_use(claim.tenant, limit.scope, limit.kind) for limit in running]
        return bool(await _sent(self._renew, keys, [claim.operation, self._lease_ms]))


async def _sent(script: Any, keys: list[str], arguments: list[Any], *, once: bool = False) -> Any:
    """Send a script, and unless `once` a second time where its reply is lost: it names its operation and so counts once."""
    try:
        with reaching_state():
            return await script(keys=keys, args=arguments)
    except StateUnavailable:
        if once:
            raise
        with reaching_state():
            return await script(keys=keys, args=arguments)


def _keys(claim: Claim) -> list[str]:
    used = [limit_use(claim.tenant, limit.scope, limit.kind) for limit in claim.limits]
    return [admission_record(claim.tenant, claim.operation), *used]


def _limits(claim: Claim) -> list[str | int]:
    return [cast("str | int", value) for limit in claim.limits for value in (limit.kind, limit.size)]
