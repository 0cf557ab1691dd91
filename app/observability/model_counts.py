"""How models and their providers are counted: under which names, each call of them, and what they used.

Children are bound once per label set and kept, so that counting on the hot path is an addition and no look-up of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from weakref import WeakValueDictionary

from app.observability.metrics import (
    ATTEMPT_SECONDS,
    ATTEMPTS,
    BREAKER_STATE,
    BREAKER_TRANSITIONS,
    CANDIDATES,
    COST,
    TOKENS,
    TTFT_SECONDS,
)
from app.observability.paces import Pace

_BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}
_ON_DEMAND_LABELS = 100
"""Models named by requests alone (`provider/model`) that each worker counts by themselves: one has about fifty series."""
_OTHER = "other"


class ModelLabels:
    """The names that models are counted under: the configured ones, the first of the others, and `other` for the rest."""

    def __init__(self) -> None:
        self._configured: frozenset[str] = frozenset()
        self._others: set[str] = set()

    def configure(self, names: Iterable[str]) -> None:
        self._configured = frozenset(names)

    def of(self, name: str) -> str:
        if name in self._configured or name in self._others:
            return name
        if len(self._others) >= _ON_DEMAND_LABELS:
            return _OTHER
        self._others.add(name)
        return name


_LABELS = ModelLabels()


def configured_models(names: Iterable[str]) -> None:
    """The models that are counted under their own names, however many there are: aliases, and `provider/model`."""
    _LABELS.configure(names)


def model_label(name: str) -> str:
    """The name that a model is counted under."""
    return _LABELS.of(name)


_PACES: WeakValueDictionary[str, Pace] = WeakValueDictionary()


def usual_seconds(model: str) -> float | None:
    """How long a good call of a model takes as a rule, measured in this process; None where none was made yet."""
    found = _PACES.get(model)
    return None if found is None else found.usual_s


class AttemptMetrics:
    """Counts the attempts of one model at one provider."""

    __slots__ = ("_latency", "_model", "_outcomes", "_pace", "_provider", "_ttft")

    def __init__(self, provider: str, model: str) -> None:
        self._provider, self._model = provider, model_label(model)
        self._latency = ATTEMPT_SECONDS.labels(provider, self._model)
        self._ttft = TTFT_SECONDS.labels(provider, self._model)
        self._outcomes: dict[str, Callable[[], None]] = {}
        self._pace = _PACES.setdefault(model, Pace())

    def attempt(self, outcome: str, latency_s: float, ttft_s: float | None) -> None:
        count = self._outcomes.get(outcome)
        if count is None:
            count = self._outcomes[outcome] = ATTEMPTS.labels(self._provider, self._model, outcome).inc
        count()
        if outcome == "ok":
            self._pace.add(latency_s)
        self._latency.observe(latency_s)
        if ttft_s is not None:
            self._ttft.observe(ttft_s)


def breaker_changed(provider: str, model: str, state: str) -> None:
    """A breaker went over to `state`. `model` is the provider's own name for it, since aliases share a breaker."""
    if model_label(f"{provider}/{model}") == _OTHER:
        model = _OTHER  # many together have no state
    else:
        BREAKER_STATE.labels(provider, model).set(_BREAKER_STATES[state])
    BREAKER_TRANSITIONS.labels(provider, model, state).inc()


class ModelMetrics:
    """Counts what became of candidates of one model, and what its calls used."""

    __slots__ = ("_model", "_statuses", "cached", "cost", "input", "output", "reasoning")

    def __init__(self, model: str) -> None:
        self._model = model
        self.input = TOKENS.labels(model, "input").inc
        self.output = TOKENS.labels(model, "output").inc
        self.cached = TOKENS.labels(model, "cached_input").inc
        self.reasoning = TOKENS.labels(model, "reasoning").inc
        self.cost = COST.labels(model).inc
        self._statuses: dict[str, Callable[[], None]] = {}

    def ended(self, status: str) -> None:
        count = self._statuses.get(status)
        if count is None:
            count = self._statuses[status] = CANDIDATES.labels(self._model, status).inc
        count()


@lru_cache(maxsize=1024)
def _labelled(label: str) -> ModelMetrics:
    return ModelMetrics(label)


def metrics_of(name: str) -> ModelMetrics:
    """What is counted of a model."""
    return _labelled(model_label(name))
