import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from app.cli.asking.wrapping import WordWrap


def wrapped(pieces, width):
    wrap = WordWrap(width)
    return "".join([*(wrap.feed(piece) for piece in pieces), wrap.rest()])


@pytest.mark.parametrize("cut", range(1, 20))
def test_lines_break_between_words_wherever_the_text_is_cut(cut):
    text = "one two three four\n\n  five sixsixsixsix"

    assert wrapped([text[i : i + cut] for i in range(0, len(text), cut)], 10) == "one two \nthree four\n\n  five \nsixsixsixsix"


@given(st.text(alphabet="ab 世\n\t", max_size=200), st.integers(4, 30))
def test_nothing_but_white_space_is_ever_lost_and_no_line_of_short_words_is_too_long(text, width):
    shown = wrapped(text, width)

    assert "".join(shown.split()) == "".join(text.split())
    if all(cell_len(word) < width for word in text.split()):
        assert all(cell_len(line) <= width for line in shown.expandtabs(8).split("\n")) or "\t" in text
