"""The decisions of a circuit breaker, as a pure state machine. `state/scripts/breakers.lua` makes the same for all replicas.

closed ──> open         the failure share or the slow share is reached in the window
open ──> half open      its time is over, and a call asks
half open ──> closed    `probes` probes passed
half open ──> open      a probe failed

An *epoch* is one stay in a state, numbered by `generation`: what was admitted in an older one decides nothing. A half-open
epoch hands out `probes` leased permits and never more. Where some of them came to nothing (the process died and the lease
ran out, the client left), a new half-open epoch begins when the last one is over.

All times are whole milliseconds on one clock: the server's for the shared state, the monotonic one for a local state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

from app.config.spec import CircuitBreakerConfig

SLOTS: Final = 10
"""Parts of a window. It forgets by parts, so it reaches back nine to ten tenths of its length."""
JITTER: Final = 0.1
"""Open times vary by this share, so that breakers which tripped together do not probe together."""

State = Literal["closed", "open", "half_open"]
Verdict = Literal["passed", "failed", "void"]
"""What a probe says. A void one says nothing of the provider: the client left, or the request was wrong."""


@dataclass(frozen=True, slots=True)
class Rules:
    """`CircuitBreakerConfig` in the units of this module."""

    window_ms: int
    min_calls: int
    failure_share: float
    slow_share: float
    open_ms: int
    max_open_ms: int
    probes: int
    lease_ms: int


def rules_of(config: CircuitBreakerConfig) -> Rules:
    return Rules(
        window_ms=round(config.window_s * 1000),
        min_calls=config.min_calls,
        failure_share=config.failure_share,
        slow_share=config.slow_share,
        open_ms=round(config.open_s * 1000),
        max_open_ms=round(config.max_open_s * 1000),
        probes=config.probes,
        lease_ms=round(config.probe_lease_s * 1000),
    )


@dataclass(slots=True)
class Tally:
    """Ended calls: all that count, the failed ones; those whose first token was timed, the slow ones among them."""

    calls: int = 0
    failures: int = 0
    timed: int = 0
    slow: int = 0

    def __bool__(self) -> bool:
        return bool(self.calls or self.timed)

    def add(self, other: Tally) -> None:
        self.calls += other.calls
        self.failures += other.failures
        self.timed += other.timed
        self.slow += other.slow


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a call that asks: admitted in epoch `generation`, as a probe or not; or refused for `retry_ms`."""

    admitted: bool
    generation: int
    probe: bool = False
    retry_ms: int = 0


@dataclass(slots=True)
class Circuit:
    """One breaker's state, with the provider's cool-down. `until` is when an open one may be probed; `trips` in a row."""

    state: State = "closed"
    generation: int = 0
    until: int = 0
    trips: int = 0
    issued: int = 0
    passed: int = 0
    cool_until: int = 0
    leases: dict[str, int] = field(default_factory=dict[str, int])
    slots: dict[int, Tally] = field(default_factory=dict[int, Tally])

    def report(self, now: int, rules: Rules, generation: int, tally: Tally, jitter: float) -> None:
        """Count calls that were admitted in `generation`, and trip where they are too many. `jitter` is in [0, 1)."""
        if self.state != "closed" or generation != self.generation:
            return
        width = max(1, rules.window_ms // SLOTS)
        current = now // width
        for slot in [slot for slot in self.slots if slot <= current - SLOTS]:
            del self.slots[slot]
        self.slots.setdefault(current, Tally()).add(tally)
        whole = self.window()
        failing = whole.calls >= rules.min_calls and whole.failures >= rules.failure_share * whole.calls
        slow = whole.timed >= rules.min_calls and whole.slow >= rules.slow_share * whole.timed
        if failing or slow:
            self._open(now, rules, jitter)

    def window(self) -> Tally:
        whole = Tally()
        for tally in self.slots.values():
            whole.add(tally)
        return whole

    def ask(self, now: int, rules: Rules, permit: str) -> Grant:
        """May a call be made? A probe's permit is `permit`; asking again with the same one gives the same answer."""
        if self.state == "closed":
            return Grant(True, self.generation)
        if self.state == "open":
            if now < self.until:
                return Grant(False, self.generation, retry_ms=self.until - now)
            self._begin("half_open")
        if permit in self.leases:
            return Grant(True, self.generation, probe=True)
        live = [expires for expires in self.leases.values() if expires > now]
        if self.issued >= rules.probes:
            if live:
                return Grant(False, self.generation, retry_ms=min(live) - now)
            self._begin("half_open")
        self.issued += 1
        self.leases[permit] = now + rules.lease_ms
        return Grant(True, self.generation, probe=True)

    def settle(self, now: int, rules: Rules, generation: int, permit: str, verdict: Verdict, jitter: float) -> None:
        """A probe is over."""
        if self.state != "half_open" or generation != self.generation or self.leases.pop(permit, None) is None:
            return
        if verdict == "failed":
            self._open(now, rules, jitter)
        elif verdict == "passed":
            self.passed += 1
            if self.passed >= rules.probes:
                self.trips = 0
                self._begin("closed")

    def renew(self, now: int, rules: Rules, permit: str) -> None:
        """A probe is still under way."""
        if permit in self.leases:
            self.leases[permit] = now + rules.lease_ms

    def cool(self, now: int, ms: int) -> None:
        """The provider wants a pause of `ms`."""
        self.cool_until = max(self.cool_until, now + ms)

    def reset(self) -> None:
        """Closed as on the first day, by hand."""
        self.trips = self.cool_until = 0
        self._begin("closed")

    def _open(self, now: int, rules: Rules, jitter: float) -> None:
        full = min(rules.max_open_ms, rules.open_ms * 2 ** min(self.trips, 30))
        self.trips += 1
        self._begin("open")
        self.until = now + math.floor(full * (1 - JITTER + 2 * JITTER * jitter))

    def _begin(self, state: State) -> None:
        self.state = state
        self.generation += 1
        self.until = self.issued = self.passed = 0
        self.leases = {}
        self.slots = {}
