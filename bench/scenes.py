"""The scenes: what is put on the service and on the floor, what is read off, and the budget for it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.load import KEY
from bench.processes import OPENING_S, BenchError, Contestant, Cores, Measured, Process, load
from bench.upstream import CHUNKS, SLOW_S, VARIED, VARIED_WORDS

LIMIT_MS = 2 * SLOW_S * 1000
"""What a panel with a lead takes at least when each call takes `SLOW_S`: the lead waits for the members."""
QUESTION = ({"role": "user", "content": "Why is the sky blue?"},)
LONG = ({"role": "user", "content": ("Explain why the following plan, with its constraints, works. " * 40)[:2_048]},)
STREAMS = 500
_WARM_UP_S = 1.0
_KB = 1000


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound on a measure, or on its ratio to the floor's."""

    kind: Literal["at least", "at most"]
    bound: float
    of_floor: bool = False

    def met(self, value: float) -> bool:
        return (operator.ge if self.kind == "at least" else operator.le)(value, self.bound)

    def __str__(self) -> str:
        return f"{self.kind} {self.bound:,g}{' of the floor' if self.of_floor else ''}"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a scene. `compares` is False where a ratio to the floor says nothing."""

    name: str
    unit: str
    budget: Budget | None = None
    digits: int = 0
    compares: bool = True


Values = dict[str, float]
"""Figures of one round, by the measure's name. What this machine cannot tell is left out."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`run` measures one contestant once. `fresh` scenes get a new process each round, because they measure its memory."""

    name: str
    title: str
    measures: Sequence[Measure]
    run: Callable[[Process, float, Cores], Values]
    contestants: tuple[Contestant, ...] = ("quorum", "floor")
    fresh: bool = False


def _body(model: str, *, stream: bool = False, messages: Sequence[object] = QUESTION) -> dict[str, object]:
    return {"model": model, "messages": messages, **({"stream": True} if stream else {})}


def _calls(server: Process, where: Cores, model: str, connections: int, seconds: float, *, stream: bool = False) -> Measured:
    return load(server, "calls", _body(model, stream=stream), connections, seconds, where, warm_up_s=_WARM_UP_S)


def _rate(measured: Measured, name: str, *, each: int = 1) -> Values:
    """So many a second, and what one costs the processor."""
    count = len(measured.times_ms) * each
    values = {name: count / measured.seconds}
    if measured.cpu_s is not None:
        values["processor"] = measured.cpu_s / count * 1e6
    return values


def _unary(server: Process, seconds: float, where: Cores) -> Values:
    return _rate(_calls(server, where, "instant", 32, seconds), "rate")


def _keyed(server: Process, seconds: float, where: Cores) -> Values:
    plain = _rate(_calls(server, where, "instant", 32, seconds), "rate")
    measured = load(server, "calls", _body("instant"), 32, seconds, where, warm_up_s=_WARM_UP_S, keyed=True)
    values = _rate(measured, "rate")
    return {**values, "share": values["rate"] / plain["rate"]}


def _cached(server: Process, seconds: float, where: Cores) -> Values:
    """Questions that nobody has asked before: each is looked for, asked, and kept."""
    plain = _rate(_calls(server, where, "instant", 32, seconds), "rate")
    new = _body("cached", messages=[{"role": "user", "content": f"Why is {KEY.decode()} blue?"}])
    missed = load(server, "calls", new, 32, seconds, where, warm_up_s=_WARM_UP_S)
    hit = _rate(_calls(server, where, "cached", 32, seconds), "hits")
    values = _rate(missed, "rate")
    return {**values, "share": values["rate"] / plain["rate"], "hits": hit["hits"] / plain["rate"]}


def _stream(server: Process, seconds: float, where: Cores) -> Values:
    return _rate(_calls(server, where, "instant", 16, seconds, stream=True), "rate", each=CHUNKS)


def _panel(server: Process, seconds: float, where: Cores) -> Values:
    return _rate(_calls(server, where, "panel", 32, seconds), "rate")


def _latency(server: Process, seconds: float, where: Cores) -> Values:
    alone = _calls(server, where, "panel-slow", 1, seconds)
    many = _calls(server, where, "panel-slow", 50, seconds)
    return {"alone": alone.quantile(0.5) - LIMIT_MS, "many": many.quantile(0.5) / LIMIT_MS}


def _adaptive(server: Process, seconds: float, where: Cores) -> Values:
    direct = load(server, "calls", _body("instant", messages=LONG), 1, seconds, where, warm_up_s=_WARM_UP_S)
    chosen = load(server, "calls", _body("chosen", messages=LONG), 1, seconds, where, warm_up_s=_WARM_UP_S)
    return {"direct": direct.quantile(0.5), "added": chosen.quantile(0.5) - direct.quantile(0.5)}


def _clustered(server: Process, seconds: float, where: Cores) -> Values:
    plain = _calls(server, where, "twenty", 1, seconds).quantile(0.5)
    clustered = _calls(server, where, "twenty-clustered", 1, seconds).quantile(0.5)
    return {"calls": plain - SLOW_S * 1000, "added": clustered - plain}


def _streams(server: Process, seconds: float, where: Cores) -> Values:
    _calls(server, where, "instant", 16, 0.5, stream=True)  # so that what is loaded on first use is not counted
    before = server.resident_bytes()
    measured = load(server, "streams", _body("paced", stream=True), STREAMS, seconds, where, warm_up_s=OPENING_S)
    values = {"gap": measured.quantile(0.99)}
    if before is not None and measured.resident_bytes is not None and measured.cpu_s is not None:
        values["memory"] = (measured.resident_bytes - before) / STREAMS / _KB
        values["share"] = measured.cpu_s / measured.seconds * 100
    return values


def _idle(server: Process, _seconds: float, _where: Cores) -> Values:
    resident = server.resident_bytes()
    return {"ready": server.ready_s} | ({} if resident is None else {"resident": resident / _KB**2})


SCENES: dict[str, Scene] = {
    scene.name: scene
    for scene in (
        Scene(
            "unary",
            "A direct chat completion, 32 connections",
            (
                Measure("rate", "requests/s", Budget("at least", 0.7, of_floor=True)),
                Measure("processor", "µs of processor a request"),
            ),
            _unary,
        ),
        Scene(
            "keyed",
            "The same with an idempotency key on each request",
            (
                Measure("rate", "requests/s", compares=False),
                Measure("share", "of the rate without", Budget("at least", 0.5), digits=2, compares=False),
                Measure("processor", "µs of processor a request", compares=False),
            ),
            _keyed,
            ("quorum",),
        ),
        Scene(
            "cached",
            "The same with a look into the cache for each request, which is not there",
            (
                Measure("rate", "requests/s", compares=False),
                Measure("share", "of the rate without", Budget("at least", 0.5), digits=2, compares=False),
                Measure("hits", "of the rate without, found there", Budget("at least", 0.5), digits=2, compares=False),
                Measure("processor", "µs of processor a request", compares=False),
            ),
            _cached,
            ("quorum",),
        ),
        Scene(
            "stream",
            f"The same streamed, {CHUNKS} chunks an answer, 16 connections",
            (
                Measure("rate", "chunks/s", Budget("at least", 35_000)),
                Measure("processor", "µs of processor a chunk", digits=1),
            ),
            _stream,
        ),
        Scene(
            "panel",
            "simple with 3 models and a lead, 32 connections",
            (Measure("rate", "runs/s", Budget("at least", 450)), Measure("processor", "µs of processor a run")),
            _panel,
        ),
        Scene(
            "latency",
            f"The same, each call {SLOW_S * 1000:g} ms: {LIMIT_MS:g} ms is the limit",
            (
                Measure("alone", "ms over the limit, 1 at a time", Budget("at most", 5), digits=1, compares=False),
                Measure("many", "of the limit, 50 at a time", Budget("at most", 1.08), digits=3),
            ),
            _latency,
        ),
        Scene(
            "adaptive",
            "adaptive over 8 models, after the same prompt of 2 KB to one of them, 1 at a time",
            (
                Measure("direct", "ms of the direct call, p50", digits=2, compares=False),
                Measure("added", "ms added to it, p50", Budget("at most", 1), digits=2, compares=False),
            ),
            _adaptive,
            ("quorum",),
        ),
        Scene(
            "clustered",
            f"A panel of {VARIED}, {VARIED_WORDS} words each, clustered, after one that counts first words",
            (
                Measure("calls", f"ms over the {SLOW_S * 1000:g} of each call, counted, p50", digits=1, compares=False),
                Measure("added", "ms added by clustering, p50", Budget("at most", 10), digits=1, compares=False),
            ),
            _clustered,
            ("quorum",),
        ),
        Scene(
            "streams",
            f"{STREAMS} open streams of 20 tokens a second",
            (
                Measure("gap", "ms added to a chunk, p99", Budget("at most", 20), digits=1),
                Measure("memory", "KB a stream", Budget("at most", 60), digits=1),
                Measure("share", "% of a core", digits=0),
            ),
            _streams,
            fresh=True,
        ),
        Scene(
            "idle",
            "A worker that has nothing to do",
            (
                Measure("resident", "MB resident", Budget("at most", 140)),
                Measure("ready", "s until ready", Budget("at most", 3), digits=2),
            ),
            _idle,
            fresh=True,
        ),
    )
}


def chosen(names: Sequence[str]) -> list[Scene]:
    """The scenes of these names, or all.

    Raises:
        BenchError: there is none of that name.
    """
    for name in names:
        if name not in SCENES:
            raise BenchError(f"no scene is called {name!r}; there are {', '.join(SCENES)}")
    return [SCENES[name] for name in names] if names else list(SCENES.values())
