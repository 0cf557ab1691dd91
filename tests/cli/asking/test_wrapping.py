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

    assert (
        wrapped([text[i : i + cut] for i in range(0, len(text), cut)], 10) == "one two \nthree four\n\n  five \nsixsixsixs\nix"
    )


@given(st.text(alphabet="ab 世\n", max_size=200), st.integers(4, 30))
def test_no_line_is_too_long_and_nothing_but_white_space_is_lost(text, width):
    shown = wrapped([text], width)

    assert "".join(shown.split()) == "".join(text.split())
    assert all(cell_len(line) <= width for line in shown.split("\n"))


def test_a_tab_goes_to_the_next_stop():
    assert wrapped(["a\tb\tcd"], 17) == "a\tb\t\ncd"
