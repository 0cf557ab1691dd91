"""Patterns of hosts: `api.example.com`, `*.example.com`, `localhost:8001`, `[::1]:8001`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

PORTS: Final = {"http": 80, "https": 443}


def fits(pattern: str, scheme: str, host: str, port: int | None) -> bool:
    """Whether `pattern` fits where a URL leads. One without a port fits the scheme's own alone, so that the other services
    of a host stay out of reach."""
    name, wanted = _parted(pattern.lower())
    if not fnmatchcase(host.strip("[]").rstrip(".").lower(), name):
        return False
    usual = PORTS.get(scheme)
    return (port or usual) == (usual if wanted is None else wanted)


def host_fault(pattern: str) -> str | None:
    """What is wrong with a pattern, None where nothing is."""
    name, _ = _parted(pattern)
    if any(character in pattern for character in "/@ ?") or not name:
        return "is no host; write it like api.example.com, *.example.com or localhost:8001"
    if not name.strip("*."):
        return "fits every host; name those that tools may reach"
    return None


def _parted(pattern: str) -> tuple[str, int | None]:
    if pattern.startswith("["):
        name, _, port = pattern[1:].partition("]")
        return name, int(port[1:]) if port[1:].isdecimal() else None
    name, colon, port = pattern.rpartition(":")
    return (name, int(port)) if colon and port.isdecimal() and ":" not in name else (pattern, None)
