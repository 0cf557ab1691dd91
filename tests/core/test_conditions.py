"""Conditions: what they decide, what is refused of them, and that none can hang or crash the process."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.condition_shape import MAX_LOOPS
from app.core.conditions import MAX_CHARACTERS, MAX_ITEMS, Unanswerable, compiled, compiled_expression
from app.core.errors import InvalidRequest

KNOWN = frozenset({"tokens", "tags", "metadata", "text"})
VALUES: dict[str, Any] = {"tokens": 120, "tags": ["gold", "eu"], "metadata": {"tier": 2}, "text": "Say it"}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("tokens < 1000", True),
        ("tokens > 1000 || 'gold' in tags", True),
        ("has(metadata.tier) && metadata.tier == 3", False),
        ("!has(metadata.team)", True),
        ("text.startsWith('Say') && text.size() < 10", True),
        ("text.matches('(?i)^say')", True),
        ("tags.exists(tag, tag.startsWith('e'))", True),
        ("tags.filter(tag, tag != 'eu').size() == 1 && tags.all(tag, tag.size() > 1)", True),
        ("'.map(x, y.map(z, z))' == text", False),
    ],
)
async def test_what_it_decides(source: str, wanted: bool) -> None:
    assert await compiled(source, KNOWN).holds(VALUES) is wanted


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tokens > > 5", "line 1, column 10: extraneous input '>'"),
        ("tokens >\n  5 5", "line 2, column 5: "),
        ("", "line 1, column 1: "),
        ("'open", "line 1, column 1: "),
        (
            "tokens > 1 && tokenz",
            r"there is no variable 'tokenz' \(line 1, column 15\); there are metadata, tags, text, tokens",
        ),
        ("tags.map(x, tags.map(y, y)).size() > 0", "line 1, column 18: 'map' loops inside or over another loop"),
        ("tags.map(x, x + x).map(x, x + x).size() > 0", "'map' loops inside or over another loop"),
        ("(tags.map(x, x) + tags).filter(x, true).size() > 0", "'filter' loops inside or over another loop"),
        (r"r'\' == text || tags.map(x, tags.map(y, y)).size() > 0 || '' == text", "inside or over another loop"),
        (" && ".join(["tags.all(t, true)"] * (MAX_LOOPS + 1)), f"more than {MAX_LOOPS} loops"),
        ("(" * 40 + "1" + ")" * 40, "brackets nest deeper than 32"),
        ("'" + "x" * MAX_CHARACTERS + "' == text", f"an expression has at most {MAX_CHARACTERS}"),
    ],
)
def test_what_is_refused_and_where(source: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        compiled(source, KNOWN)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("metadata.team == 'red'", "there is no 'team'"),
        ("tokens + 1", "it gives int, not true or false"),
        ("tokens / 0 == 1", "division by zero"),
        ("text + 1 == ''", "Unsupported operation"),
        ("text.matches(metadata.kind)", "there is no 'kind'"),
        ("tokens * 9223372036854775807 > 0", "overflow"),
    ],
)
def test_what_cannot_be_decided_says_why(source: str, reason: str) -> None:
    with pytest.raises(Unanswerable, match=reason):
        compiled(source, KNOWN).decide(VALUES)


@pytest.mark.parametrize(
    "large", [{"tags": ["x"] * (MAX_ITEMS + 1)}, {"text": "x" * 300_000}, {"metadata": {"a": ["x" * 300_000]}}]
)
def test_values_have_bounds(large: dict[str, Any]) -> None:
    with pytest.raises(Unanswerable, match="too large"):
        compiled("tokens > 1", KNOWN).decide({**VALUES, **large})


def test_the_most_that_is_allowed_takes_well_under_a_second() -> None:
    loops = " && ".join(f"tags.map(x, x + text).size() > {n}" for n in range(MAX_LOOPS))
    values = {**VALUES, "tags": ["x"] * (MAX_ITEMS - 20), "text": "word " * 10}
    condition = compiled(loops, KNOWN)
    began = time.perf_counter()
    assert condition.decide(values)
    taken = time.perf_counter() - began
    print(f"{MAX_LOOPS} loops over {MAX_ITEMS - 20} items: {taken * 1000:.0f} ms")
    assert taken < 0.5


@pytest.mark.parametrize("wrong", ["tags[7] == 'a'", "tags[-1] == 'a'", "tags[9223372036854775807] == 'a'", "[1][tokens] == 1"])
def test_an_item_that_is_not_there_cannot_be_decided(wrong: str) -> None:
    with pytest.raises(Unanswerable, match="there is no such item"):
        compiled(wrong, KNOWN).decide(VALUES)


LONG = {"metadata": list(range(18_000))}
WORDY = {"text": "x" * 190_000}
SOME = {"tags": ["x"] * 200, "text": "x" * 50_000}


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("size(" + "+".join(["metadata"] * 200) + ")", LONG),  # 16 s
        ("[" + ",".join(["metadata"] * 200) + "]", LONG),
        ("[" + ",".join(["true ? metadata : 0"] * 90) + "]", LONG),
        ("(" + "+".join(["text"] * 250) + ").size()", WORDY),
        ("+".join(["(true ? text : '')"] * 100), WORDY),
        ("tags.map(x, text + text + text)", SOME),
        ("tags.map(x, [" + ",".join(["text"] * 50) + "])", SOME),
        ("[" + ",".join(["true ? text : x"] * 60).replace(": x", ": ''") + "].map(x, [" + ",".join(["x"] * 60) + "])", SOME),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
async def test_what_would_copy_its_values_over_and_over_is_not_evaluated(source: str, values: dict[str, Any]) -> None:
    began = time.perf_counter()
    with pytest.raises(Unanswerable, match="would be copied too often"):
        await compiled_expression(source, KNOWN).value(values)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("[" + ",".join(["metadata"] * 60) + "].size()", LONG),
        ("(" + "+".join(["metadata"] * 7) + ").size()", LONG),
        ("metadata.map(x, x.a + ' ' + x.b).size()", {"metadata": [{"a": "x" * 900, "b": "y" * 900}] * 90}),
        ("metadata.filter(x, x.a > text).size()", {"metadata": [{"a": "x" * 100}] * 100, "text": "w" * 100_000}),
        ("text + ': ' + text + '. '", WORDY),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
async def test_what_copies_a_little_is_evaluated_in_no_time(source: str, values: dict[str, Any]) -> None:
    began = time.perf_counter()
    assert await compiled_expression(source, KNOWN).value(values)
    assert time.perf_counter() - began < 0.5


def test_a_condition_without_sums_copies_nothing_however_long_the_prompt_is() -> None:
    source = "tags.exists(tag, text.contains(tag)) && (text.size() > 5 || text == 'x')"
    assert compiled(source, KNOWN).decide({**VALUES, "tags": ["x"] * 250, **WORDY})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tags.exists(t, text.matches(t))", "line 1, column 21: inside of a loop 'matches' takes a pattern that is written"),
        ("tags.exists(t, matches(t, '[a-z]'))", "inside of a loop 'matches' takes"),
        (r"tags.exists(t, t.matches(r'\w{200}'))", "inside of a loop 'matches' takes"),
        (r"tags.exists(t, t.matches(r'\w\w\w'))", "inside of a loop 'matches' takes"),
        (" || ".join(["text.matches('a')"] * 5), "more than 4 'matches'"),
    ],
)
def test_patterns_are_not_compiled_over_and_over(source: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        compiled(source, KNOWN)


def test_a_short_pattern_may_be_looked_for_in_every_item() -> None:
    values = {**VALUES, "tags": ["x y"] * 280}
    source = r"tags.all(t, t.matches(r'^\w+ \w+$')) && text.matches(metadata) && text.matches('a{3}') == false"
    began = time.perf_counter()
    assert compiled(source, KNOWN).decide({**values, "metadata": "S.y"})
    assert time.perf_counter() - began < 1


async def test_one_that_loops_is_evaluated_off_the_event_loop() -> None:
    one = compiled("tags.exists(t, t == 'gold')", KNOWN)
    assert one.loops
    assert not compiled("tokens > 1", KNOWN).loops
    deciding = asyncio.ensure_future(one.holds(VALUES))
    await asyncio.sleep(0)
    assert not deciding.done()
    assert await deciding


_PIECES = [
    "tags",
    "tokens",
    "text",
    ".map(x, ",
    ".all(t, ",
    "x",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    "1",
    "'a'",
    '"',
    "'",
    "r'",
    "\\",
]
_MORE = [" + ", " && ", "?", ":", "!", "-", ".", "size()", "in", "//", "\n", "has(", "null", "0x", "é", "\x00"]


@given(st.lists(st.sampled_from(_PIECES + _MORE), max_size=40).map("".join))
def test_whatever_is_written_is_compiled_and_decided_or_refused(source: str) -> None:
    with suppress(InvalidRequest, Unanswerable):
        compiled(source, KNOWN).decide(VALUES)
