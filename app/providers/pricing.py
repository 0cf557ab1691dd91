"""What models cost: from the configuration, else from the offline data of `genai-prices`.

That library's own calculation takes about 150 us a call, so a model's rates are converted once, when it is looked up, to
prices that take under a microsecond. Its meaning of usage is ours: `input_tokens` is the whole prompt, cached tokens
included, for every vendor. Its tiers are cliffs: a prompt longer than the threshold pays that tier's rate for all tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from app.config.spec import LLMProvider, PriceConfig
from app.core.clock import Clock, SystemClock
from app.core.usage import FlatPrice, Price, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_PROVIDER_IDS = {
    "gemini": "google",
    "xai": "x-ai",
    "moonshot": "moonshotai",
    "azure_v1": "azure",
}
"""Where `genai-prices` calls a kind or a vendor of ours by another name."""

_LOCAL = frozenset({"mock", "replay", "ollama", "vllm", "lmstudio", "llamacpp"})
"""Kinds and vendors whose models have no list price, whatever they are called."""

_RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "output_reasoning_mtok")
_PRICE_AGE_S = 60.0


@dataclass(frozen=True, slots=True)
class TieredPrice:
    """Rates that depend on the length of a call's prompt; so it prices one call, not a sum of calls.

    `tiers` are pairs of a threshold in input tokens and the price above it, the highest threshold first.
    """

    base: Price
    tiers: tuple[tuple[int, Price], ...]

    def cost(self, usage: Usage) -> float:
        for above, price in self.tiers:
            if usage.input_tokens > above:
                return price.cost(usage)
        return self.base.cost(usage)


@dataclass(frozen=True, slots=True)
class PerCallPrice:
    """A fee in dollars for each call, on top of its tokens."""

    fee_usd: float
    tokens: Price

    def cost(self, usage: Usage) -> float:
        return self.fee_usd + self.tokens.cost(usage)


class ChangingPrice:
    """A price that depends on the date or the time of day. It is looked at anew once a minute.

    Parameters:
        at: the price at a moment.
    """

    __slots__ = ("_at", "_clock", "_price", "_until")

    def __init__(self, at: Callable[[datetime], Price], clock: Clock) -> None:
        self._at = at
        self._clock = clock
        self._until = 0.0
        self._price = self._now()

    def _now(self) -> Price:
        now = self._clock.now()
        self._until = now - now % _PRICE_AGE_S + _PRICE_AGE_S
        return self._at(datetime.fromtimestamp(now, UTC))

    def cost(self, usage: Usage) -> float:
        if self._clock.now() >= self._until:
            self._price = self._now()
        return self._price.cost(usage)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the price list says of a model; `context_window` in tokens."""

    price: Price | None = None
    context_window: int | None = None


UNLISTED = Listing()


def configured_price(config: PriceConfig) -> FlatPrice:
    return FlatPrice(config.input, config.output, config.cached_input, config.cache_write, config.reasoning)


def listing(provider: LLMProvider, model: str, clock: Clock | None = None) -> Listing:
    """What is known of `model` at `provider`; `UNLISTED` where nothing is."""
    vendor = provider.vendor or provider.kind
    if vendor in _LOCAL:
        return UNLISTED
    found = _look_up(_PROVIDER_IDS.get(vendor, vendor), provider.base_url, model)
    if found is None:
        return UNLISTED
    return Listing(price_of(found, clock or SystemClock()), found.context_window)


@cache
def _look_up(provider_id: str, base_url: str | None, model: str) -> ModelInfo | None:
    """The entry under the vendor's name, or, for a server of unknown make, under the one whose API has that address."""
    from genai_prices.data_snapshot import get_snapshot

    by_address = provider_id == "openai_compatible"
    if by_address and base_url is None:
        return None
    try:
        if by_address:
            _, found = get_snapshot().find_provider_model(model, None, None, base_url)
        else:
            _, found = get_snapshot().find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    return found


def price_of(found: ModelInfo, clock: Clock) -> Price | None:
    """The price of an entry of the list, at any time from now on; None where it is not by token."""
    if isinstance(found.prices, list):
        if not all(map(_token_price, (entry.prices for entry in found.prices))):
            return None
        return ChangingPrice(lambda moment: _certain(found.get_prices(moment)), clock)
    return _token_price(found.prices)


def _certain(rates: ModelPrice) -> Price:
    price = _token_price(rates)
    if price is None:
        raise LookupError("every one of a model's prices was seen to have rates by token")
    return price


def _token_price(rates: ModelPrice) -> Price | None:
    """`rates` as a price of ours; None where they are not by token, as for speech and images."""
    if rates.input_mtok is None and rates.output_mtok is None:
        return None
    starts: set[int] = set()
    for name in _RATES:
        rate = getattr(rates, name)
        if rate is not None and not isinstance(rate, Decimal):
            starts.update(tier.start for tier in rate.tiers)
    price: Price = _flat(rates, None)
    if starts:
        price = TieredPrice(price, tuple((start, _flat(rates, start)) for start in sorted(starts, reverse=True)))
    fee = rates.requests_kcount
    return PerCallPrice(float(fee) / 1000, price) if isinstance(fee, Decimal) else price


def _flat(rates: ModelPrice, above: int | None) -> FlatPrice:
    """The rates for prompts longer than `above`, or for the shortest where that is None."""
    read: list[float | None] = []
    for name in _RATES:
        rate = getattr(rates, name)
        if rate is None:
            read.append(None)
        elif isinstance(rate, Decimal):
            read.append(float(rate))
        else:
            reached = [tier.price for tier in rate.tiers if above is not None and tier.start <= above]
            read.append(float(reached[-1] if reached else rate.base))
    return FlatPrice(read[0] or 0.0, read[1] or 0.0, read[2], read[3], read[4])
