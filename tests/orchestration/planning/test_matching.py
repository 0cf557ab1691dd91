"""Whether rules fit requests."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.config.planning import Match
from app.core.runs import OrchestrationConfig, PlanRequest
from app.orchestration.planning.matching import Asked, given

ATTRIBUTES: dict[str, Any] = {
    "customer": {"tier": "gold", "tags": ["vip", "eu"], "age": 41, "active": True},
    "amount": 12.5,
    "note": "order 17 for Emma",
    "a.b": "dotted",
    "empty": None,
}


def asked(text: str = "Please order the book.", *, at: str = "2026-11-21T13:00", **more: Any) -> Asked:
    now = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo("UTC")).timestamp()
    facts = {"text": text, "tokens": more.pop("tokens", 50), "tenant": "shop", "attributes": ATTRIBUTES}
    request = PlanRequest(
        OrchestrationConfig("reliable"), (), tenant="shop", type="order", attributes=ATTRIBUTES, facts=facts, now=now, **more
    )
    return Asked(request)


def why_not(match: dict[str, Any], request: Asked | None = None) -> str | None:
    return (request or asked()).mismatch(Match.model_validate(match))


@pytest.mark.parametrize(
    "match",
    [
        {},
        {"types": ["order"]},
        {"types": ["sum", "ord*"]},
        {"tenants": ["shop"]},
        {"tokens": {"min": 50, "max": 50}},
        {"keywords": ["refund", "BOOK"]},
        {"keywords": ["order the"]},
        {"matches": r"^Please\b"},
        {"attributes": {"customer.tier": "gold"}},
        {"attributes": {"customer.tier": ["silver", "gold"]}},
        {"attributes": {"customer.tier": {"in": ["gold"], "matches": "^g", "contains": "ol"}}},
        {"attributes": {"customer.tags": {"contains": "vip"}}},
        {"attributes": {"customer.tags.1": "eu"}},
        {"attributes": {"customer.age": {"min": 18, "max": 65}}},
        {"attributes": {"customer.active": True}},
        {"attributes": {"amount": {"min": 12.5}}},
        {"attributes": {"amount": 12.5, "a.b": "dotted"}},
        {"attributes": {"empty": {"equals": None}}},
        {"attributes": {"nobody": {"exists": False}}},
        {"time": {"start": "09:00", "end": "17:00", "days": ["sat"]}},
        {"time": {"start": "22:00", "end": "14:00"}},
        {"time": {"start": "14:00", "end": "14:30", "zone": "Europe/Berlin"}},
        {"time": {"days": ["sat", "sun"]}},
        {"when": 'tenant == "shop" && attributes.amount > 12.0 && tokens < 60'},
        {"not": {"types": ["sum"]}},
        {"any": [{"types": ["sum"]}, {"tenants": ["shop"]}]},
        {"all": [{"types": ["order"]}, {"not": {"any": [{"tokens": {"min": 51}}, {"keywords": ["refund"]}]}}]},
    ],
    ids=str,
)
def test_a_rule_fits_where_all_of_it_holds(match: dict[str, Any]) -> None:
    assert why_not(match) is None


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ({"types": ["sum"]}, "the type 'order' is none of its types"),
        ({"tenants": ["bank"]}, "'shop' is none of its tenants"),
        ({"tokens": {"min": 51}}, "the prompt has about 50 tokens, and it wants at least 51"),
        ({"tokens": {"min": 1, "max": 49}}, "the prompt has about 50 tokens, and it wants 1 to 49"),
        ({"keywords": ["boo", "ordering"]}, "none of its keywords is said"),
        ({"matches": "^book"}, "its pattern is not found in the last user message"),
        ({"attributes": {"customer.tier": "silver"}}, "the attribute 'customer.tier' is 'gold', not 'silver'"),
        ({"attributes": {"customer.tier": ["silver"]}}, "the attribute 'customer.tier' is 'gold', which is not listed"),
        ({"attributes": {"customer.name": "x"}}, "the attribute 'customer.name' is not there"),
        ({"attributes": {"amount": {"exists": False}}}, "the attribute 'amount' is there"),
        ({"attributes": {"customer.active": 1}}, "the attribute 'customer.active' is True, not 1"),
        ({"attributes": {"customer.active": {"min": 0}}}, "the attribute 'customer.active' is True, which is no number"),
        ({"attributes": {"note": {"min": 1}}}, "is 'order 17 for Emma', which is no number"),
        ({"attributes": {"amount": {"max": 12}}}, "the attribute 'amount' is 12.5, and it wants at most 12"),
        ({"attributes": {"customer.tags": {"contains": "us"}}}, "the attribute 'customer.tags' has no 'us' in it"),
        ({"attributes": {"amount": {"matches": "1"}}}, "is no text that its pattern is found in"),
        ({"attributes": {"customer": {"equals": {"tier": "gold"}}}}, "the attribute 'customer' is {'tier': 'gold'"),
        ({"time": {"start": "13:01", "end": "17:00"}}, "it is for other times"),
        ({"time": {"days": ["mon"]}}, "it is for other times"),
        ({"when": "tokens > 60"}, "its condition does not hold"),
        ({"when": "attributes.customer.size > 1"}, "its condition cannot be decided"),
        ({"not": {}}, "what is under 'not' holds"),
        ({"any": [{"types": ["a"]}, {"tenants": ["b"]}]}, "nothing under 'any' holds (the type 'order' is none"),
    ],
    ids=str,
)
def test_what_does_not_hold_is_said(match: dict[str, Any], reason: str) -> None:
    assert reason in (why_not(match) or "it fits")


def test_what_a_rule_went_by_is_said() -> None:
    assert given(Match.model_validate({"not": {"types": ["x"]}, "tokens": {"max": 3}})) == "it fits by not, tokens"
    assert given(Match()) == "it fits every request"


def test_a_pattern_that_explodes_elsewhere_takes_no_time() -> None:
    request = asked("a" * 20_000 + "!")
    began = time.perf_counter()
    assert why_not({"matches": "^(a+)+$", "keywords": ["a"]}, request) is not None
    assert why_not({"matches": "(a*)*(a*)*b"}, request) is not None
    took = time.perf_counter() - began
    print(f"two patterns over 20,000 characters: {took * 1000:.1f} ms")
    assert took < 1
