"""What others have written, made harmless for a terminal."""

from __future__ import annotations

import re
from typing import Final

_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 controls but tab and newline: they move the cursor, retitle, recolour
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they turn the direction of what follows: Unicode TR 36, section 2.8
    "\u2028\u2029\ud800-\udfff]"  # separators that only some take for a line's end; halves of pairs, which are no UTF-8
)


def escaped(text: str) -> str:
    """`text` with every control character but newline and tab written out; the CR of a CRLF is dropped."""
    return _UNSAFE.sub(lambda found: _written(found[0]), text.replace("\r\n", "\n"))


def escaped_json(text: str) -> str:
    r"""JSON text with the control characters that JSON lets stand written as `\u....`; it means the same."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _written(char: str) -> str:
    return f"\\x{ord(char):02x}" if char < "\u0100" else f"\\u{ord(char):04x}"
