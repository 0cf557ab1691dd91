"""HTTP clients that may ask many things at once."""

from __future__ import annotations

from typing import Any, Final

import httpx

KEEP: Final = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)
"""Closes no connection before the server does. A pool that closes idle ones (by default beyond 20, and after 5 s) may close
one that it gave to a request a moment ago: `ReadError` where the machine is busy (encode/httpcore issue 1110)."""


def http_client(base_url: str = "", *, timeout_s: float = 60, **more: Any) -> httpx.AsyncClient:
    """A client whose requests fail only where the service fails them."""
    return httpx.AsyncClient(base_url=base_url, timeout=timeout_s, limits=KEEP, **more)
