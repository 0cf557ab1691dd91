"""Tokens by kind, and what they cost."""

from __future__ import annotations

from typing import Protocol

from app.core.values import value


@value
class Usage:
    """Tokens of one or more calls.

    `input_tokens` counts the whole prompt, cached or not; `output_tokens` counts everything generated, reasoning included.
    The other members say how much of those two was of a kind that is priced or limited on its own. Vendors differ in what
    they include; adapters convert to this one meaning.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


NO_USAGE = Usage()


class Price(Protocol):
    """What a model charges."""

    def cost(self, usage: Usage) -> float:
        """Dollars for `usage`, each kind of token at its own rate."""
        ...


@value
class FlatPrice:
    """Dollars per million tokens of each kind; a kind without a rate of its own costs what input or output costs."""

    input_per_mtok: float
    output_per_mtok: float
    cached_input_per_mtok: float | None = None
    cache_write_per_mtok: float | None = None
    reasoning_per_mtok: float | None = None

    def cost(self, usage: Usage) -> float:
        cached = self.input_per_mtok if self.cached_input_per_mtok is None else self.cached_input_per_mtok
        written = self.input_per_mtok if self.cache_write_per_mtok is None else self.cache_write_per_mtok
        plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
        extra = 0.0 if self.reasoning_per_mtok is None else self.reasoning_per_mtok - self.output_per_mtok
        return (
            plain * self.input_per_mtok
            + usage.cached_input_tokens * cached
            + usage.cache_write_tokens * written
            + usage.output_tokens * self.output_per_mtok
            + usage.reasoning_tokens * extra
        ) / 1e6
