"""Where the service listens, and whether it may."""

from __future__ import annotations

import errno
import ipaddress
import socket

from app.core.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`. A name other than localhost counts as public."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def may_bind(host: str, has_keys: bool, insecure: bool) -> str | None:
    """Why the service must not listen on `host`, None where it may: without any key, only this machine may reach it."""
    if has_keys or insecure or is_loopback(host):
        return None
    return (
        f"refusing to listen on {host!r} without any API key: everybody who reaches it could spend on your providers. "
        "Make a key with 'quorum keys create' or set QUORUM_ADMIN_KEY; or pass --insecure if the network itself is safe"
    )


def bind(host: str, port: int) -> list[socket.socket]:
    """One bound socket for each address of `host` (localhost may have two), all on one port; not listening yet.

    Raises `ConfigError` where the host is unknown, the port is taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"the host {host!r} cannot be found ({error.strerror}): choose another with --host") from error
    addresses = dict.fromkeys((family, address[0]) for family, _, _, _, address in found)
    bound: list[socket.socket] = []
    refusal: OSError | None = None
    for family, address in addresses:
        try:
            bound.append(_bound(family, str(address), bound[0].getsockname()[1] if bound else port))
        except OSError as error:
            refusal = error
    # A machine without IPv6 still has localhost in both families: one address is enough, unless the port itself is taken.
    if refusal is not None and (not bound or refusal.errno == errno.EADDRINUSE):
        for each in bound:
            each.close()
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({refusal.strerror}): choose another port with --port (0 takes a free one)"
        ) from refusal
    return bound


def urls(sockets: list[socket.socket]) -> list[str]:
    """The addresses as a browser takes them."""
    found: list[str] = []
    for each in sockets:
        host, port = each.getsockname()[:2]
        found.append(f"http://[{host}]:{port}" if each.family == socket.AF_INET6 else f"http://{host}:{port}")
    return found


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
