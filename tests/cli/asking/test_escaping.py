import json

import pytest

from app.cli.asking.escaping import escaped, escaped_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("Grüße, 世界 👋", "Grüße, 世界 👋"),
        ("a\r\nb", "a\nb"),
        ("over\rwritten", "over\\x0dwritten"),
        ("\x1b]0;owned\x07\x1b[2J", "\\x1b]0;owned\\x07\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("rm \u202efdp.exe", "rm \\u202efdp.exe"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_control_characters_are_written_out_and_text_is_left_alone(text, shown):
    assert escaped(text) == shown


def test_json_means_the_same_when_escaped_and_holds_no_control_character():
    value = {"text": "\x9b31m \u202e \x7f \x1b"}

    text = escaped_json(json.dumps(value, ensure_ascii=False))

    assert json.loads(text) == value
    assert text.isascii()
