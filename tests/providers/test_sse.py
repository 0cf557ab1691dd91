"""The decoder of server-sent events, cut anywhere, against a parser that reads the standard line by line."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.sse import SseDecoder, SseTooLarge

Events = list[tuple[bytes, bytes]]


def reference(stream: bytes) -> Events:
    """WHATWG HTML, section 9.2.6, as it is written there, and the two rules for bare JSON."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    *lines, unfinished = re.split(rb"\r\n|\n|\r", stream)
    events: Events = []
    name, data, block = b"", b"", []
    for line in lines:
        if line:
            block.append(line)
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                name = value
            continue
        if data:
            events.append((name, data[:-1]))
        elif (bare := b"\n".join(block)).lstrip().startswith(b"{"):
            events.append((b"", bare))
        name, data, block = b"", b"", []
    rest = b"\n".join([*block, unfinished]).strip()
    return [*events, (b"", rest)] if rest.startswith(b"{") and rest.endswith(b"}") else events


def decode(stream: bytes, cuts: list[int]) -> Events:
    decoder = SseDecoder()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    events = [event for a, b in pairwise(edges) for event in decoder.feed(stream[a:b])]
    return [*events, *decoder.end()]


LINES = st.sampled_from(
    [
        b"data: one",
        b"data:two",
        b"data:  two spaces",
        b"data",
        b"data:",
        b'data: {"a": 1}',
        b"data: \xc3\xa9",
        b"event: error",
        b"event",
        b"id: 7",
        b"retry: 10",
        b": comment",
        b":",
        b"nonsense",
        b" data: not a field",
        b'{"error": 1}',
        b'{"error":',
        b'  "message": "x"}',
        b"\xef\xbb\xbfdata: no BOM here",
        b"",
        b"",
        b"",
    ]
)
ENDINGS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    ending = draw(ENDINGS | st.none())
    lines = draw(st.lists(LINES, max_size=12))
    text = b"".join(line + (ending or draw(ENDINGS)) for line in lines)
    return (
        draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb"]))
        + text
        + draw(st.sampled_from([b"", b"data: cut", b"{}", b" }"]))
    )


@given(streams(), st.lists(st.integers(0, 500), max_size=8))
def test_any_stream_cut_anywhere_gives_what_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    assert decode(stream, cuts) == reference(stream)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_byte_by_byte_is_no_different(ending: bytes) -> None:
    lines = [b"\xef\xbb\xbf: hi", b"event: a", b"data: 1", b"data: 2", b"", b"", b"data: 3", b"", b'{"error": {', b"}}", b""]
    stream = b"".join(line + ending for line in lines)
    expected = [(b"a", b"1\n2"), (b"", b"3"), (b"", b'{"error": {\n}}')]
    assert decode(stream, list(range(len(stream)))) == expected
    assert decode(stream, []) == expected


def test_blank_lines_before_a_bare_object_are_no_part_of_it() -> None:
    assert decode(b'data: 1\n\n\n{"error": 1}\n\n', []) == [(b"", b"1"), (b"", b'{"error": 1}')]


def test_an_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: 1\n") == []
    assert decoder.feed(b"\n") == [(b"", b"1")]
    assert decoder.feed(b"data: 2\n\ndata: 3\n\ndata") == [(b"", b"2"), (b"", b"3")]


def test_a_stream_whose_lines_end_in_cr_gives_its_last_event_at_its_end() -> None:
    assert decode(b"data: 1\r\rdata: 2\r\r", []) == [(b"", b"1"), (b"", b"2")]


def test_what_the_end_of_the_stream_cuts_off_is_no_event() -> None:
    assert decode(b"data: 1\n\ndata: 2\n", []) == [(b"", b"1")]


@pytest.mark.parametrize("size", [100, 10_000])
def test_an_event_that_does_not_end_is_refused_at_the_limit(size: int) -> None:
    decoder = SseDecoder(limit=100_000)
    fed = 0
    with pytest.raises(SseTooLarge, match="100000"):
        for _ in range(200_000 // size):
            decoder.feed(b"x" * size)
            fed += size
    assert fed <= 100_000


def test_a_long_event_in_many_chunks_is_read_in_linear_time() -> None:
    piece = b"x" * 16_384
    decoder = SseDecoder()
    began = time.process_time()
    decoder.feed(b"data: ")
    for _ in range(2_000):  # 32 MB; joined anew with every chunk it would be 32 GB
        assert decoder.feed(piece) == []
    ((_, data),) = decoder.feed(b"\n\n")
    assert len(data) == 2_000 * len(piece)
    assert time.process_time() - began < 2
