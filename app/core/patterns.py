"""Regular expressions of callers: RE2, which takes linear time whatever the pattern says. Python's own may take for ever."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Protocol

from app.core.errors import InvalidRequest

MAX_CHARACTERS: Final = 2_000
_MAX_MEMORY: Final = 1 << 20
"""Bytes that a compiled pattern may take: (x{1000}){1000} is refused."""


class Found(Protocol):
    """A place where a pattern matches."""

    def start(self) -> int: ...
    def end(self) -> int: ...
    def group(self, number: int = 0, /) -> str | None: ...
    def expand(self, template: str, /) -> str: ...


class Pattern:
    """A compiled pattern. `groups` is how many capturing groups it has."""

    __slots__ = ("_pattern", "groups", "source")

    def __init__(self, source: str, pattern: Any) -> None:
        self.source = source
        self._pattern = pattern
        self.groups: int = pattern.groups

    def search(self, text: str) -> Found | None:
        """The first place in `text` where it matches."""
        return self._pattern.search(text)

    def template_fault(self, template: str) -> str | None:
        r"""What is wrong with `template` (`\1` stands for a group), None where nothing is."""
        anywhere: Found = _re2().compile(f"(?:{self.source})|").search("")
        try:
            anywhere.expand(template)
        except IndexError:
            return f"names a group that {self.source!r} has not; it has {self.groups}"
        except ValueError:
            return "has a backslash that stands for nothing; write two for one"
        return None

    def replaced(self, text: str, template: str, *, most: int) -> str | None:
        r"""`text` with every match replaced by `template` (`\1` stands for a group); None where it grows beyond `most`."""
        pieces: list[str] = []
        end = size = 0
        for found in self._pattern.finditer(text):
            piece = text[end : found.start()] + found.expand(template)
            end = found.end()
            size += len(piece)
            if size > most:
                return None
            pieces.append(piece)
        pieces.append(text[end:])
        return "".join(pieces) if size + len(text) - end <= most else None


@lru_cache(maxsize=1_024)
def compiled(source: str) -> Pattern:
    """The pattern `source`, in RE2's syntax: https://github.com/google/re2/wiki/Syntax.

    Raises:
        InvalidRequest: it is none, or too large.
    """
    if len(source) > MAX_CHARACTERS:
        raise InvalidRequest(f"has {len(source)} characters; a pattern has at most {MAX_CHARACTERS}")
    re2 = _re2()
    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    try:
        return Pattern(source, re2.compile(source, options))
    except re2.error as error:
        said = error.args[0]
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise InvalidRequest(f"is no pattern of RE2: {reason}") from None


def _re2() -> Any:
    import re2  # pyright: ignore[reportMissingTypeStubs]  # here: only those who use patterns load it

    return re2
