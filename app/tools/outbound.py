"""Requests that tools and webhooks send: to listed hosts only, never into our own network unless that is listed too.

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
    """An HTTP answer; `headers` by lower-case name, `content` is empty where it was not to be read."""

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
        settings: the section of the configuration that says where requests may go.
    """

    def __init__(
        self, reach: Reach = Reach(), names: Callable[[], AbstractResolver] = ThreadedResolver, *, settings: str = "tools"
    ) -> None:
        self.reach = reach
        self._names = names
        self._settings = settings
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
        sent = {**headers, **_tracing(caller)}
        try:
            whole = method != "HEAD"
            return await self.ask(f"the tool {tool!r}", method, url, sent, content, timeout_s=timeout_s, whole=whole)
        except ProviderError as error:
            raise _translated(tool, error, timeout_s) from error

    async def ask(
        self,
        asker: str,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        content: bytes,
        *,
        timeout_s: float,
        whole: bool,
    ) -> Answer:
        """Send a request and read its answer; of one that is not to be `whole`, no more than the head.

        Raises:
            Forbidden: the URL leads where `asker` may not reach.
            ProviderError: there was no such answer; `reason` says why.
        """
        self._check(asker, url)
        client = self._client(guarded=not self.reach.lists_private(url))
        return await client.within(timeout_s, _exchange(client, method, url, headers, content, whole=whole))

    def _check(self, asker: str, url: httpx.URL) -> None:
        where = f"{url.host}:{url.port}" if url.port else url.host
        if url.scheme not in PORTS or not url.host or url.userinfo:
            raise _refused(asker, "only plain http(s)://host[:port]/path URLs may be asked, without a user")
        if not self.reach.lists(url):
            raise _refused(asker, f"the host {where!r} is not listed; add it to {self._settings}.hosts")
        if is_address(url.host) and not is_public(url.host) and not self.reach.lists_private(url):
            raise _refused(asker, f"{where!r} is not public; {self._permit}")

    @property
    def _permit(self) -> str:
        return f"list it under {self._settings}.private_hosts to permit it"

    def _not_public(self, host: str) -> Forbidden:
        return Forbidden(f"{host!r} leads to an address that is not public; {self._permit}")

    def _client(self, *, guarded: bool) -> HttpClient:
        if guarded:
            self._guarded = self._guarded or _made(PublicNames(self._names(), self._not_public))
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


async def _exchange(
    client: HttpClient, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes, *, whole: bool
) -> Answer:
    response = await client.send(method, url, headers, content)
    try:
        body = await client.read(response) if whole else b""
        return Answer(response.status_code, plain_headers(response), body)
    finally:
        await response.aclose()


def reason(error: ProviderError) -> str:
    """Why there was no answer."""
    return error.message.partition(": ")[2] or error.message.replace("provider 'tools' ", "")


def _translated(tool: str, error: ProviderError, timeout_s: float) -> ToolExecutionError:
    said = reason(error)
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


def _refused(asker: str, why: str) -> Forbidden:
    return Forbidden(f"{asker} may not reach this: {why}", param="arguments")


def _any_fits(patterns: Sequence[str], url: httpx.URL) -> bool:
    return any(fits(pattern, url.scheme, url.host, url.port) for pattern in patterns)


def decoded(content: bytes, kind: str) -> Any:
    """The text of a body by its content type; what is no text of that kind is replaced, never raised."""
    charset = kind.partition("charset=")[2].partition(";")[0].strip(" \"'") or "utf-8"
    try:
        return content.decode(charset, "replace")
    except LookupError:
        return content.decode("utf-8", "replace")
