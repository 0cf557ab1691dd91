from __future__ import annotations

import pytest

from app.core.hosts import fits, host_fault
from app.core.templates import Missing, filled, filled_value, placeholders
from app.core.tools import ToolReference, Version, parse_reference


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("clock", ToolReference("clock")),
        ("clock@latest", ToolReference("clock")),
        ("clock@1", ToolReference("clock", (1,))),
        ("clock@1.0.2", ToolReference("clock", (1, 0, 2))),
        ("clock@01", None),
        ("clock@1.x", None),
        ("clock@", None),
        ("no clock", None),
        ("c" * 65, None),
    ],
)
def test_a_reference_is_a_name_with_the_beginning_of_a_version(text: str, meant: ToolReference | None) -> None:
    assert parse_reference(text) == meant


def test_a_reference_fits_the_versions_that_begin_with_it() -> None:
    assert ToolReference("a", (1, 2)).fits("a", Version(1, 2, 9))
    assert not ToolReference("a", (1, 2)).fits("a", Version(1, 20))
    assert not ToolReference("a", (1,)).fits("b", Version(1))


@pytest.mark.parametrize(
    ("pattern", "url", "is_so"),
    [
        ("api.example.com", ("https", "api.example.com", None), True),
        ("api.example.com", ("https", "API.example.com.", None), True),
        ("api.example.com", ("https", "api.example.com", 443), True),
        ("api.example.com", ("https", "api.example.com", 8443), False),
        ("api.example.com:8443", ("https", "api.example.com", 8443), True),
        ("*.example.com", ("https", "a.b.example.com", None), True),
        ("*.example.com", ("https", "example.com", None), False),
        ("*.example.com", ("https", "example.com.evil.test", None), False),
        ("[::1]:8001", ("http", "::1", 8001), True),
        ("::1", ("http", "::1", None), True),
        ("localhost:8001", ("http", "localhost", None), False),
    ],
)
def test_a_pattern_fits_hosts_and_the_port_it_names(pattern: str, url: tuple[str, str, int | None], is_so: bool) -> None:
    assert fits(pattern, *url) is is_so


@pytest.mark.parametrize("pattern", ["*", "*.*", "", "http://a.test", "user@a.test", "a b"])
def test_a_pattern_that_fits_everything_or_no_host_is_refused(pattern: str) -> None:
    assert host_fault(pattern)


def test_a_template_takes_members_of_arguments_and_leaves_plain_brackets() -> None:
    assert filled("{place.city}/{n}/{{x}}", {"place": {"city": "Rome"}, "n": 3}) == "Rome/3/{x}"
    assert list(placeholders({"a": ["{b.c}", "{{no}}"], "d": "{e}"})) == ["b.c", "e"]
    with pytest.raises(Missing):
        filled("{city}", {})


def test_a_lone_placeholder_becomes_the_argument_and_what_is_missing_is_left_out() -> None:
    template = {"all": "{items}", "text": "n={n}", "gone": "{none}", "list": ["{n}", "{none}"]}
    assert filled_value(template, {"items": [1, {"a": None}], "n": 2}) == {
        "all": [1, {"a": None}],
        "text": "n=2",
        "list": [2],
    }
