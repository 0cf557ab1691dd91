"""Ports for servers that are started as processes of their own, which have to be told theirs beforehand."""

from __future__ import annotations

import random
import socket
from typing import Final

_FIRST: Final = 10_000
_LAST: Final = 22_000
"""Below the ports that systems give to connections (from 32768 on Linux: `net.ipv4.ip_local_port_range`), with those of the
bus of a Redis Cluster, 10,000 above: what is free when it is picked is not given to a connection before the server is up."""
_BUS: Final = 10_000


def free_port() -> int:
    """A port of the loopback on which nobody listens."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Ports that are free together with those 10,000 above them."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(_FIRST, _LAST), _LAST - _FIRST):
        if _is_free(port) and _is_free(port + _BUS):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
