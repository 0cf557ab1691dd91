"""How many calls are under way to each model in this process, and whether there is room for more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.reliability.bulkhead import Bulkhead


@dataclass(slots=True, eq=False)
class Load:
    """Of one model: the calls that its gate has let through and that are not over, and the bulkheads that bound them."""

    under_way: int = 0
    bulkheads: Sequence[Bulkhead] = ()

    @property
    def full(self) -> bool:
        """Whether a call more would have to wait."""
        return any(bulkhead.full for bulkhead in self.bulkheads)


@dataclass(slots=True)
class Loads:
    """The loads of a process, by provider and the provider's name of the model, which aliases share."""

    _by_model: dict[tuple[str, str], Load] = field(default_factory=dict[tuple[str, str], Load])

    def of(self, provider: str, model: str) -> Load:
        """That of one model, made when it is first asked for."""
        found = self._by_model.get((provider, model))
        if found is None:
            found = self._by_model[provider, model] = Load()
        return found

    def seen(self, provider: str, model: str) -> Load | None:
        """That of one model; None where no call to it was ever prepared."""
        return self._by_model.get((provider, model))
