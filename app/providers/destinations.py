"""Where a provider that somebody registers at run time may be: not inside our own network, unless it is listed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import httpx
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver

from app.core.addresses import is_public
from app.core.errors import InvalidRequest
from app.providers.public_names import PublicNames

_SCHEMES = ("http", "https")
_RESOLVE_S = 5.0


async def check_destination(base_url: str, allowed_hosts: Sequence[str]) -> None:
    """Refuse a base URL that leads to a private, loopback, link-local or otherwise reserved address.

    Parameters:
        allowed_hosts: host names or addresses, as written in the URL, that may be private.

    Raises:
        InvalidRequest: it is no plain http(s) URL, cannot be resolved, or leads where it must not.
    """
    url = _parsed(base_url)
    host = url.host
    if host in allowed_hosts:
        return
    addresses = await _resolve(host, url.port or 443)
    if any(not is_public(address) for address in addresses):
        raise InvalidRequest(
            f"base_url: {host!r} leads to an address that is not public; list it under allowed_hosts to permit it",
            param="base_url",
        )


def names_of(base_url: str | None, allowed_hosts: Sequence[str]) -> AbstractResolver | None:
    """What looks up the name in a base URL that was checked, so that it leads to public addresses later, too. None where it may
    lead anywhere, or is a vendor's own."""
    if base_url is None or _parsed(base_url).host in allowed_hosts:
        return None
    return PublicNames(ThreadedResolver(), _not_public)


def _not_public(host: str) -> OSError:
    return OSError(f"{host!r} leads to an address that is not public now; list it under allowed_hosts to permit it")


def _parsed(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise InvalidRequest("base_url is not a URL", param="base_url") from None
    if url.scheme not in _SCHEMES or not url.host or url.userinfo or url.fragment or url.query:
        raise InvalidRequest("base_url must be http(s)://host[:port][/path], without user, query or fragment", param="base_url")
    return url


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        raise InvalidRequest(f"base_url: the name {host!r} cannot be resolved", param="base_url") from None
    return [str(entry[4][0]) for entry in found]
