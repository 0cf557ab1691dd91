"""Requests that tools send: to listed hosts only, never into our own network unless that is listed too.

A name is looked up once, and connected to at the very addresses that were found and held to be public (`PublicNames`).
Redirects are answers, and not followed. Proxies are left aside, since they look names up by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver

from app.core.addresses import is_address, is_public
from app.core.errors import Forbidden, ProviderError, ToolExecutionError
from app.core.hosts import PORTS, fits
from app.core.tools import ToolCaller
from app.providers.http import HttpClient, plain_headers
from app.providers.public_names import PublicNames
from app.tools.failures import cut_off, failed, timed_out, unavailable

CONNECT_S: Final = 5.0
MAX_CONNECTIONS: Final = 100
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Beyond it an answer is cut off where it comes from; what of it is given is bounded by the tool."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read whole; `headers` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Reach:
    """Where requests may go. `hosts` and `private` are patterns of host, or of host and port."""

    hosts: Sequence[str] = ()
    private: Sequence[str] = ()

    def lists(self, url: httpx.URL) -> bool:
        return _any_fits(self.hosts, url)

    def lists_private(self, url: httpx.URL) -> bool:
        return _any_fits(self.private, url)


class Outbound:
    """The connections of all tools of a process. Made outside of an event loop, used inside of one.

    Parameters:
        names: makes what looks names up.
    """

    def __init__(self, reach: Reach = Reach(), names: Callable[[], AbstractResolver] = ThreadedResolver) -> None:
        self.reach = reach
        self._names = names
        self._guarded: HttpClient | None = None
        self._trusted: HttpClient | None = None

    async def send(
        self,
        tool: str,
        method: str,
        url: httpx.URL,
        *,
        headers: Mapping[str, str],
        content: bytes = b"",
        caller: ToolCaller,
        timeout_s: float,
    ) -> Answer:
        """Send a request for `tool` and read its answer.

        Raises:
            Forbidden: the URL leads where tools may not reach.
            ToolExecutionError: there was no whole answer.
        """
        self._check(tool, url)
        client = self._client(guarded=not self.reach.lists_private(url))
        sent = {**headers, **_tracing(caller)}
        try:
            return await client.within(timeout_s, _exchange(client, method, url, sent, content))
        except ProviderError as error:
            raise _translated(tool, error, timeout_s) from error

    def _check(self, tool: str, url: httpx.URL) -> None:
        where = f"{url.host}:{url.port}" if url.port else url.host
        if url.scheme not in PORTS or not url.host or url.userinfo:
            raise _refused(tool, "only plain http(s)://host[:port]/path URLs may be asked, without a user")
        if not self.reach.lists(url):
            raise _refused(tool, f"the host {where!r} is not listed; add it to tools.hosts")
        if is_address(url.host) and not is_public(url.host) and not self.reach.lists_private(url):
            raise _refused(tool, f"{where!r} is not public; list it under tools.private_hosts to permit it")

    def _client(self, *, guarded: bool) -> HttpClient:
        if guarded:
            self._guarded = self._guarded or _made(PublicNames(self._names(), _not_public))
            return self._guarded
        self._trusted = self._trusted or _made(self._names())
        return self._trusted

    async def aclose(self) -> None:
        for client in (self._guarded, self._trusted):
            if client is not None:
                await client.aclose()


def _made(resolver: AbstractResolver) -> HttpClient:
    return HttpClient(
        "tools", connect_s=CONNECT_S, max_connections=MAX_CONNECTIONS, max_response_bytes=MAX_ANSWER_BYTES, resolver=resolver
    )


async def _exchange(client: HttpClient, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes) -> Answer:
    response = await client.send(method, url, headers, content)
    try:
        body = b"" if method == "HEAD" else await client.read(response)
        return Answer(response.status_code, plain_headers(response), body)
    finally:
        await response.aclose()


def _translated(tool: str, error: ProviderError, timeout_s: float) -> ToolExecutionError:
    said = error.message.partition(": ")[2] or error.message.replace("provider 'tools' ", "")
    match error.failure:
        case "timeout":
            return timed_out(tool, timeout_s) if "within" in error.message else unavailable(tool, said)
        case "connection":
            return unavailable(tool, said)
        case "incomplete":
            return cut_off(tool, said)
        case _:
            return failed(tool, said)


def _tracing(caller: ToolCaller) -> dict[str, str]:
    """What ties a request to those that it is made for."""
    found = {"x-request-id": caller.request_id, "x-quorum-run-id": caller.run_id, "traceparent": caller.traceparent}
    return {name: value for name, value in found.items() if value}


def _refused(tool: str, why: str) -> Forbidden:
    return Forbidden(f"the tool {tool!r} may not reach this: {why}", param="arguments")


def _not_public(host: str) -> Forbidden:
    return Forbidden(f"{host!r} leads to an address that is not public; list it under tools.private_hosts to permit it")


def _any_fits(patterns: Sequence[str], url: httpx.URL) -> bool:
    return any(fits(pattern, url.scheme, url.host, url.port) for pattern in patterns)


def decoded(content: bytes, kind: str) -> Any:
    """The text of a body by its content type; what is no text of that kind is replaced, never raised."""
    charset = kind.partition("charset=")[2].partition(";")[0].strip(" \"'") or "utf-8"
    try:
        return content.decode(charset, "replace")
    except LookupError:
        return content.decode("utf-8", "replace")
