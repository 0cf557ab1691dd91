"""The vendor rows, and what a start without configuration looks for."""

from __future__ import annotations

import httpx
import pytest
from genai_prices import Usage, calc_price

from app.core.errors import ConfigError
from app.providers.vendors import ENVIRONMENT, OPENAI, UNKNOWN, VENDORS, KeyInEnvironment, vendor_of


def test_each_row_stands_under_its_name_with_a_usable_base_url() -> None:
    for name, row in VENDORS.items():
        assert row.name == name
        if row.base_url is not None:
            url = httpx.URL(row.base_url)
            assert url.scheme in ("http", "https")
            assert url.host
            assert not row.base_url.endswith("/")


def test_the_kind_openai_is_openai_whatever_vendor_is_named() -> None:
    assert vendor_of("openai", "groq") is OPENAI


def test_a_compatible_provider_without_a_vendor_is_what_most_do() -> None:
    assert vendor_of("openai_compatible", None) is UNKNOWN


def test_a_misspelt_vendor_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'gorq' is not known; known are .*groq"):
        vendor_of("openai_compatible", "gorq")


def test_the_environment_knows_the_usual_variables() -> None:
    variables = {entry.name: entry.variables for entry in ENVIRONMENT}
    assert variables["openai"] == ("OPENAI_API_KEY",)
    assert variables["anthropic"] == ("ANTHROPIC_API_KEY",)
    assert variables["gemini"] == ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    assert variables["groq"] == ("GROQ_API_KEY",)


def test_each_entry_of_the_environment_is_complete_and_stands_once() -> None:
    assert len({entry.name for entry in ENVIRONMENT}) == len(ENVIRONMENT)
    for entry in ENVIRONMENT:
        assert entry.variables
        assert entry.models
        assert (entry.vendor is not None) == (entry.kind == "openai_compatible")
        assert entry.vendor is None or entry.vendor in VENDORS


@pytest.mark.parametrize("entry", [entry for entry in ENVIRONMENT if entry.name != "zai"], ids=lambda entry: entry.name)
def test_the_models_of_the_environment_have_a_price(entry: KeyInEnvironment) -> None:
    known = {"xai": "x-ai", "gemini": "google", "moonshot": "moonshotai"}.get(entry.name, entry.name)
    for model in entry.models:
        assert calc_price(Usage(input_tokens=1000), model_ref=model, provider_id=known).total_price > 0
