"""What is wrong with headers that the configuration sends along."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from app.config.document import Fault, MemberPath

FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade"})
"""What says where a message ends, and its connection (RFC 9110, section 7.6.1; RFC 9112): only who sends it can know that."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, section 5.6.2


def header_faults(headers: Mapping[str, str], path: MemberPath, ours: Collection[str] = FRAMING) -> Iterator[Fault]:
    """The faults of `headers`, which stand at `path`; `ours` are the names, in lower case, of those that may not be set."""
    named: dict[str, str] = {}
    for name, value in headers.items():
        first = named.setdefault(name.lower(), name)
        if not _NAME.fullmatch(name):
            yield Fault((*path, name), "is not a header's name")
        elif name.lower() in ours:
            yield Fault((*path, name), "is decided by the connection; leave it out")
        elif first != name:
            yield Fault((*path, name), f"is the same header as {first!r}; leave one out")
        if any(character in value for character in "\r\n\0") or not value.isascii():
            yield Fault((*path, name), "a header's value is one line of ASCII")
