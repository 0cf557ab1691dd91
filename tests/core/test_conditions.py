"""Conditions: what they decide, what is refused of them, and that none can hang or crash the process."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.conditions import MAX_CHARACTERS, MAX_ITEMS, MAX_LOOPS, Unanswerable, compiled
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
