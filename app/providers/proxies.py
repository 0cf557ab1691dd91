"""The proxies that the environment names: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, in capitals or not.

aiohttp reads them by itself where it may trust the environment, but then `~/.netrc` too: what stands there would be sent to
providers that get no `Authorization`, and calls to all others would fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL


class Way(NamedTuple):
    """Through `proxy`, with `to_proxy` for it alone and `headers` for the request; without one, directly."""

    headers: Mapping[str, str]
    proxy: URL | None = None
    to_proxy: Mapping[str, str] | None = None


def way_to(url: URL, headers: Mapping[str, str]) -> Way:
    """How a request goes out.

    Raises:
        ValueError: the environment names a proxy by what is no URL.
    """
    named = getproxies().get(url.scheme)
    if not named or proxy_bypass(url.authority):
        return Way(headers)
    proxy = URL(named if "://" in named else f"http://{named}")
    if not proxy.host:
        raise ValueError(f"the proxy for {url.scheme} has no host")
    if proxy.user is None:
        return Way(headers, proxy)
    credential = {"proxy-authorization": aiohttp.encode_basic_auth(proxy.user, proxy.password or "")}
    proxy = proxy.with_user(None)
    return Way(headers, proxy, credential) if url.scheme == "https" else Way({**headers, **credential}, proxy)
