"""The circuit breakers of one process: local copies of what all replicas share, decided on without I/O while they are closed.

What ended is gathered and told every 250 ms; what changed anywhere is pushed here, and comes back with every flush besides. A
half-open breaker is asked for a permit, one round trip. While Redis is away, or without one, the copies decide by themselves.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from random import Random
from typing import Final

from app.core.clock import Clock
from app.core.errors import NotFound, StateUnavailable
from app.observability.model_counts import breaker_changed
from app.reliability.circuit import Circuit, Grant, Rules, State, Tally, Verdict
from app.state.breakers import BreakerStore, Entry, ProbeEnd, Record, Reply
from app.state.flusher import Flusher

_MOST_ON_DEMAND: Final = 100
_IDLE_MS: Final = 600_000
"""Breakers of models that only requests name are listed as long as they were used in the last ten minutes or are not closed,
and at most so many: anybody makes one by naming a model."""
_HURRY_MS: Final = 100
"""A pause that ends at least so much later than known is told at once."""
_QUIET_MS: Final = 50
"""While all permits of a half-open one are out, it is asked at most that often, not by every call."""
_LOCAL_LEASE_MS: Final = 86_400_000
"""Probes of a local state cannot outlive its process, so their leases need not end."""


class Breaker:
    """One breaker, shared by all calls to the same model at the same provider with the same credential."""

    __slots__ = (
        "__weakref__",
        "_all",
        "asked",
        "circuit",
        "cool_ms",
        "ended",
        "heard_ms",
        "id",
        "model",
        "on_demand",
        "probes",
        "provider",
        "quiet_until",
        "rules",
        "tally",
    )

    def __init__(self, owner: Breakers, breaker_id: str, provider: str, model: str, rules: Rules) -> None:
        self._all = owner
        self.id, self.provider, self.model = breaker_id, provider, model
        self.rules = rules
        self.circuit = Circuit()
        self.tally = Tally()
        self.probes: dict[str, int] = {}
        self.ended: list[ProbeEnd] = []
        self.cool_ms = 0
        self.asked = 0.0
        self.quiet_until = 0
        self.on_demand = False
        self.heard_ms = owner.now_ms()

    async def ask(self) -> tuple[Grant, str]:
        """May a call be made? With a probe comes its permit, which must be given to `settle`."""
        permit = secrets.token_hex(8)
        now = self._all.now_ms()
        circuit = self.circuit
        if circuit.state == "closed" or (circuit.state == "open" and now < circuit.until):
            return circuit.ask(now, self.rules, permit), permit
        if now < self.quiet_until:
            return Grant(False, circuit.generation, retry_ms=self.quiet_until - now), permit
        grant = await self._all.ask(self, permit)
        if grant.probe:
            self.probes[permit] = now
        elif not grant.admitted:
            self.quiet_until = self._all.now_ms() + min(grant.retry_ms, _QUIET_MS)
        return grant, permit

    def record(self, generation: int, tally: Tally) -> None:
        """Calls that were admitted in `generation` are over."""
        circuit = self.circuit
        if self.on_demand:
            self.heard_ms = self._all.now_ms()
        if generation != circuit.generation:
            return
        if self._all.local:
            with self._all.watching(self):
                circuit.report(self._all.now_ms(), self.rules, generation, tally, self._all.jitter())
        else:
            self.tally.add(tally)

    def settle(self, generation: int, permit: str, verdict: Verdict) -> None:
        """A probe is over. Only the first word on it counts."""
        if self.probes.pop(permit, None) is None:
            return
        if self._all.local:
            with self._all.watching(self):
                self.circuit.settle(self._all.now_ms(), self.rules, generation, permit, verdict, self._all.jitter())
        else:
            self.ended.append({"generation": generation, "permit": permit, "verdict": verdict})
            self._all.hurry()

    def cool(self, seconds: float) -> None:
        """The provider wants a pause of `seconds`, on every replica."""
        before, ms = self.circuit.cool_until, round(seconds * 1000)
        self.circuit.cool(self._all.now_ms(), ms)
        if not self._all.local and self.circuit.cool_until >= before + _HURRY_MS:
            self.cool_ms = max(self.cool_ms, ms)
            self._all.hurry()

    def cooling_s(self) -> float:
        """Seconds that the pause still lasts."""
        return max(0, self.circuit.cool_until - self._all.now_ms()) / 1000

    def open_s(self) -> float:
        """Seconds until an open one may be probed."""
        return max(0, self.circuit.until - self._all.now_ms()) / 1000 if self.circuit.state == "open" else 0.0


class _Watch:
    """Counts what changes of a breaker's state in the block."""

    __slots__ = ("_before", "_breaker")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._before: State = breaker.circuit.state

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        after = self._breaker.circuit.state
        if after != self._before:
            breaker_changed(self._breaker.provider, self._breaker.model, after)


class Breakers:
    """All breakers of the process.

    Parameters:
        store: what the replicas share; None for a process of its own.
        fingerprint: a hash of credentials that may be shown.
    """

    def __init__(
        self, store: BreakerStore | None, clock: Clock, rng: Random, *, fingerprint: Callable[[str], str] | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._fingerprint = fingerprint
        self._breakers: weakref.WeakValueDictionary[str, Breaker] = weakref.WeakValueDictionary()
        self._known: tuple[dict[str, Record], int] = ({}, 0)
        self.local = store is None
        self._flusher = None if store is None else Flusher("breakers", self.flush)
        self._feed = None if store is None else store.feed(self._load)

    async def start(self) -> None:
        """Read the shared states, where Redis answers, and follow them."""
        if self._flusher is not None and self._feed is not None:
            await self._feed.start()
            self._flusher.start()

    async def close(self) -> None:
        if self._flusher is not None and self._feed is not None:
            await self._feed.close()
            await self._flusher.close()

    def of(self, provider: str, model: str, credential: str, rules: Rules, *, on_demand: bool = False) -> Breaker:
        """The breaker of these calls, with `rules` from now on. It lives as long as somebody holds it.

        `on_demand` says that only requests name the model.
        """
        breaker_id = f"{provider}:{model}"
        if credential and self._fingerprint is not None:
            breaker_id += f":{self._fingerprint(credential)[:8]}"
        breaker = self._breakers.get(breaker_id)
        if breaker is None:
            breaker = self._breakers[breaker_id] = Breaker(self, breaker_id, provider, model, rules)
            breaker.on_demand = on_demand
            records, shift = self._known
            _take(breaker, records.get(breaker_id), shift)
        breaker.rules = rules
        breaker.on_demand = breaker.on_demand and on_demand
        return breaker

    def all(self) -> list[Breaker]:
        return _sorted(self._breakers.values())

    def listed(self) -> list[Breaker]:
        """Those of configured models, and of the others the ones in use, those that were used last if there are many."""
        found = list(self._breakers.values())
        demanded = sorted((b for b in found if b.on_demand and self._in_use(b)), key=lambda b: b.heard_ms, reverse=True)
        return _sorted([*(b for b in found if not b.on_demand), *demanded[:_MOST_ON_DEMAND]])

    def _in_use(self, breaker: Breaker) -> bool:
        return breaker.circuit.state != "closed" or self.now_ms() - breaker.heard_ms < _IDLE_MS or breaker.cooling_s() > 0

    def opened(self) -> list[Breaker]:
        """Those that are open."""
        return [breaker for breaker in self._breakers.values() if breaker.circuit.state == "open"]

    async def reset(self, breaker_id: str) -> Breaker:
        """Close a breaker, on every replica, and end the provider's pause.

        Raises:
            NotFound: there is none.
            StateUnavailable: Redis is away, so the others cannot be told.
        """
        breaker = self._breakers.get(breaker_id)
        if breaker is None:
            raise NotFound(f"there is no breaker {breaker_id!r}: GET /v1/breakers lists them", param="id")
        if self._store is None:
            with self.watching(breaker):
                breaker.circuit.reset()
        else:
            sent = self._clock.monotonic()
            self._adopt(await self._store.reset(self._entry(breaker)), sent, (breaker,))
        return breaker

    def now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000)

    def jitter(self) -> float:
        return self._rng.random()

    def watching(self, breaker: Breaker) -> _Watch:
        return _Watch(breaker)

    def hurry(self) -> None:
        if self._flusher is not None:
            self._flusher.hurry()

    async def ask(self, breaker: Breaker, permit: str) -> Grant:
        """Ask the shared state; while Redis is away, the local one."""
        if self._store is not None and not self.local:
            sent = self._clock.monotonic()
            try:
                reply = await self._store.ask({**self._entry(breaker), "permit": permit})
            except StateUnavailable:
                self.local = True
            else:
                self._adopt(reply, sent, (breaker,))
                granted = reply["grants"][breaker.id]
                return Grant(granted["admitted"], granted["generation"], granted["probe"], granted["retry_ms"])
        with self.watching(breaker):
            return breaker.circuit.ask(self.now_ms(), self._local_rules(breaker), permit)

    async def flush(self) -> None:
        """Tell what was gathered and take over what comes back."""
        store = self._store
        if store is None:
            return
        if self.local:
            await self._return()
            return
        told = [(breaker, entry) for breaker in list(self._breakers.values()) if (entry := self._report(breaker))]
        if not told:
            return
        sent = self._clock.monotonic()
        try:
            reply = await store.report([entry for _, entry in told])
        except StateUnavailable:
            self._leave(told)
        else:
            self._adopt(reply, sent, [breaker for breaker, _ in told])

    def _leave(self, told: Iterable[tuple[Breaker, Entry]]) -> None:
        """Redis is away: what it was to be told counts here."""
        self.local = True
        now = self.now_ms()
        for breaker, entry in told:
            rules, circuit = self._local_rules(breaker), breaker.circuit
            with self.watching(breaker):
                if tally := entry.get("tally"):
                    circuit.report(now, rules, circuit.generation, Tally(**tally), self.jitter())
                for probe in entry.get("probes", ()):
                    circuit.settle(now, rules, probe["generation"], probe["permit"], probe["verdict"], self.jitter())

    async def _return(self) -> None:
        """See whether Redis is back; if so, its word counts again."""
        try:
            await self._load()
        except StateUnavailable:
            return
        self.local = False

    async def _load(self) -> None:
        if self._store is not None:
            sent = self._clock.monotonic()
            reply = await self._store.read()
            self._known = (reply["records"], self.now_ms() - reply["now"])
            self._adopt(reply, sent, list(self._breakers.values()))

    def _adopt(self, reply: Reply, sent: float, breakers: Iterable[Breaker]) -> None:
        """Take over shared states. Replies to what was asked earlier than the last one taken over are old news.

        Server times become local ones by what is left of them, so that clocks need not agree.
        """
        shift = self.now_ms() - reply["now"]
        for breaker in breakers:
            if sent >= breaker.asked:
                breaker.asked = sent
                with self.watching(breaker):
                    _take(breaker, reply["records"].get(breaker.id), shift)

    def _report(self, breaker: Breaker) -> Entry | None:
        """What there is to tell of `breaker`; it is not told again."""
        now = self.now_ms()
        due = [permit for permit, since in breaker.probes.items() if now - since >= breaker.rules.lease_ms / 3]
        if not (breaker.tally or breaker.ended or breaker.cool_ms or due):
            return None
        entry = self._entry(breaker)
        entry["generation"] = breaker.circuit.generation
        if breaker.tally:
            entry["tally"] = asdict(breaker.tally)
        entry["probes"], entry["renew"], entry["cool_ms"] = breaker.ended, due, breaker.cool_ms
        breaker.tally, breaker.ended, breaker.cool_ms = Tally(), [], 0
        breaker.probes.update(dict.fromkeys(due, now))
        return entry

    def _entry(self, breaker: Breaker) -> Entry:
        return {"id": breaker.id, "rules": asdict(breaker.rules), "jitter": self.jitter()}

    def _local_rules(self, breaker: Breaker) -> Rules:
        return replace(breaker.rules, lease_ms=_LOCAL_LEASE_MS)


def _sorted(breakers: Iterable[Breaker]) -> list[Breaker]:
    return sorted(breakers, key=lambda breaker: (breaker.provider, breaker.model, breaker.id))


def _take(breaker: Breaker, record: Record | None, shift: int) -> None:
    circuit = breaker.circuit
    if record is None:
        if circuit.generation == 0:
            return
        record = Record(state="closed", generation=0, until_ms=0, trips=0, issued=0, passed=0, cool_until_ms=0, leases={})
    if record["generation"] != circuit.generation:
        breaker.tally = Tally()
        circuit.slots = {}
    circuit.state, circuit.generation, circuit.trips = record["state"], record["generation"], record["trips"]
    circuit.issued, circuit.passed = record["issued"], record["passed"]
    circuit.until = record["until_ms"] + shift if record["until_ms"] else 0
    untold = circuit.cool_until if breaker.cool_ms else 0
    circuit.cool_until = max(untold, record["cool_until_ms"] + shift if record["cool_until_ms"] else 0)
    circuit.leases = {permit: expires + shift for permit, expires in record["leases"].items()}
