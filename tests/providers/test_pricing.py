from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price

from app.config.spec import LLMProvider, PriceConfig, ProviderKind
from app.core.usage import FlatPrice, Usage
from app.providers.pricing import (
    UNLISTED,
    ChangingPrice,
    PerCallPrice,
    TieredPrice,
    configured_price,
    listing,
)

USAGES = [
    Usage(1000, 500),
    Usage(1000, 500, cached_input_tokens=400, reasoning_tokens=300),
    Usage(5000, 10, cached_input_tokens=1000, cache_write_tokens=3000),
    Usage(199_999, 1),
    Usage(200_000, 1),
    Usage(200_001, 1, cached_input_tokens=100_000),
    Usage(300_000, 9, cached_input_tokens=1, cache_write_tokens=1),
]


def provider(kind: ProviderKind, vendor: str | None = None, base_url: str | None = None) -> LLMProvider:
    return LLMProvider(kind=kind, vendor=vendor, base_url=base_url)


@dataclass
class TurnedClock:
    time: float

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@pytest.mark.parametrize(
    ("config", "model", "theirs"),
    [
        (provider("openai"), "gpt-4o", "openai"),
        (provider("openai"), "gpt-5", "openai"),
        (provider("anthropic"), "claude-sonnet-4-5", "anthropic"),
        (provider("anthropic"), "claude-haiku-5-5", "anthropic"),
        (provider("gemini"), "gemini-2.5-pro", "google"),
        (provider("openai_compatible", "xai"), "grok-4", "x-ai"),
        (provider("openai_compatible", "deepseek"), "deepseek-chat", "deepseek"),
        (provider("openai_compatible", "perplexity"), "sonar-pro", "perplexity"),
        (provider("openai_compatible", "perplexity"), "sonar-deep-research", "perplexity"),
        (provider("openai_compatible", "openrouter"), "anthropic/claude-sonnet-4.5", "openrouter"),
        (provider("openai_compatible", None, "https://api.groq.com/openai/v1"), "openai/gpt-oss-120b", "groq"),
    ],
)
@pytest.mark.parametrize("usage", USAGES)
def test_a_call_costs_what_the_price_list_s_own_calculation_says(
    config: LLMProvider, model: str, theirs: str, usage: Usage
) -> None:
    clock = TurnedClock(datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp())
    price = listing(config, model, clock).price
    assert price is not None
    their_usage = TheirUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
    )
    moment = datetime.fromtimestamp(clock.time, UTC)
    expected = calc_price(their_usage, model, provider_id=theirs, genai_request_timestamp=moment).total_price
    assert price.cost(usage) == pytest.approx(float(expected), rel=1e-9)


def test_a_sum_of_kinds_each_at_its_own_rate() -> None:
    price = configured_price(PriceConfig(input=2, output=10, cached_input=0.5, cache_write=2.5, reasoning=8))
    usage = Usage(1_000_000, 500_000, cached_input_tokens=400_000, cache_write_tokens=100_000, reasoning_tokens=250_000)
    assert price.cost(usage) == pytest.approx(0.5 * 2 + 0.4 * 0.5 + 0.1 * 2.5 + 0.25 * 10 + 0.25 * 8)


def test_kinds_without_a_rate_cost_what_input_and_output_cost() -> None:
    price = configured_price(PriceConfig(input=2, output=10))
    usage = Usage(1_000_000, 500_000, cached_input_tokens=400_000, reasoning_tokens=250_000)
    assert price.cost(usage) == pytest.approx(2 + 5)


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (provider("openai"), "nobody-knows-this-model"),
        (provider("openai"), "whisper-1"),
        (provider("openai_compatible", None, "http://127.0.0.1:9/v1"), "gpt-4o"),
        (provider("openai_compatible", "ollama"), "llama3.1:8b"),
        (provider("openai_compatible", "unheard-of"), "gpt-4o"),
        (provider("mock"), "gpt-4o"),
        (provider("replay"), "gpt-4o"),
    ],
)
def test_an_unknown_price_is_none(config: LLMProvider, model: str) -> None:
    assert listing(config, model).price is None


def test_a_listing_knows_the_context_window() -> None:
    assert listing(provider("openai"), "gpt-4o").context_window == 128_000
    assert listing(provider("mock"), "gpt-4o") == UNLISTED


def test_a_long_prompt_pays_its_tier_for_all_tokens() -> None:
    price = TieredPrice(FlatPrice(1, 2), ((500, FlatPrice(5, 9)), (200, FlatPrice(3, 4))))
    assert price.cost(Usage(200, 100)) == pytest.approx((200 * 1 + 100 * 2) / 1e6)
    assert price.cost(Usage(201, 100)) == pytest.approx((201 * 3 + 100 * 4) / 1e6)
    assert price.cost(Usage(501, 100)) == pytest.approx((501 * 5 + 100 * 9) / 1e6)


def test_a_fee_is_paid_for_each_call() -> None:
    assert PerCallPrice(0.01, FlatPrice(1, 1)).cost(Usage(500_000, 500_000)) == pytest.approx(1.01)


def test_a_price_that_changes_is_looked_at_once_a_minute() -> None:
    clock = TurnedClock(60.0)
    asked: list[datetime] = []

    def at(moment: datetime) -> FlatPrice:
        asked.append(moment)
        return FlatPrice(1 if moment.minute < 2 else 2, 0)

    price = ChangingPrice(at, clock)
    million = Usage(1_000_000, 0)
    assert price.cost(million) == 1
    clock.time = 119.9
    assert price.cost(million) == 1
    assert len(asked) == 1
    clock.time = 120.0
    assert price.cost(million) == 2
    assert len(asked) == 2


def test_a_price_with_a_start_date_follows_the_clock() -> None:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, StartDateConstraint

    from app.providers.pricing import price_of

    prices = [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(1))),
        ConditionalPrice(
            StartDateConstraint(datetime(2026, 6, 1, tzinfo=UTC).date()), prices=ModelPrice(input_mtok=Decimal(3))
        ),
    ]
    found = ModelInfo("x", match=None, prices=prices)  # type: ignore[arg-type]
    clock = TurnedClock(datetime(2026, 5, 31, 23, 59, tzinfo=UTC).timestamp())
    price = price_of(found, clock)
    assert price is not None
    assert price.cost(Usage(1_000_000, 0)) == 1
    clock.time += 60
    assert price.cost(Usage(1_000_000, 0)) == 3


def test_the_price_list_is_imported_only_when_a_price_is_looked_up() -> None:
    code = (
        "import sys, threading; from app.providers.pricing import listing; from app.config.spec import LLMProvider;"
        "assert 'genai_prices' not in sys.modules; listing(LLMProvider(kind='mock'), 'x');"
        "assert 'genai_prices' not in sys.modules; listing(LLMProvider(kind='openai'), 'gpt-4o');"
        "assert 'genai_prices' in sys.modules; assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
