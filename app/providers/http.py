"""The HTTP boundary: httpx's types around aiohttp. Nothing else talks to providers, or for tools.

aiohttp is asked directly, and its answer read through the stream of its transport for httpx. An httpx client costs as much
again; the transport's own requests cost a twentieth of a forwarded call, and it holds a TLS context that is never used.
Redirects are not followed, cookies are not kept, responses are not decompressed unless the provider insists, and nothing is
retried here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Mapping
from contextlib import suppress
from typing import TypeVar, cast
from urllib.request import getproxies

import aiohttp
import aiohttp.abc
import httpx
from httpx_aiohttp.transport import AiohttpResponseStream
from yarl import URL

from app.core.errors import FailureClass, ProviderError
from app.core.streams import close, with_deadline
from app.providers.proxies import Way, way_to

T = TypeVar("T")

_MAX_RESPONSE_BYTES = 64 * 1024 * 1024
_KEEPALIVE_S = 50.0  # under the 60 s after which common load balancers close an idle connection
_CODINGS = frozenset({"gzip", "deflate"})  # what a piece of becomes a thousand times as long at most
_BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError)


class HttpClient:
    """Connections to one provider. Must be made and used inside one running event loop.

    Parameters:
        provider: the provider's name, for errors.
        connect_s: seconds until a connection stands, waiting for a free one included.
        max_connections: connections open at once.
        max_response_bytes: the longest body that `read` takes.
        resolver: finds the addresses of names; those that it gives are what is connected to. With one, proxies are left
            aside, since they would look names up by themselves.
    """

    def __init__(
        self,
        provider: str,
        *,
        connect_s: float,
        max_connections: int,
        max_response_bytes: int = _MAX_RESPONSE_BYTES,
        resolver: aiohttp.abc.AbstractResolver | None = None,
    ) -> None:
        self._provider = provider
        self._resolver = resolver
        self._max_response_bytes = max_response_bytes
        self._max_connections = max_connections
        self._timeout = aiohttp.ClientTimeout(connect=connect_s, sock_connect=connect_s)
        self._proxied = resolver is None and bool(getproxies())
        self._session: aiohttp.ClientSession | None = None

    def _opened(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections,
                keepalive_timeout=_KEEPALIVE_S,
                resolver=self._resolver,
                use_dns_cache=self._resolver is None,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def send(self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes = b"") -> httpx.Response:
        """The response as soon as its headers are there; the caller reads and closes it.

        Raises:
            ProviderError: nothing came back (`connection`, `timeout` or `incomplete`).
        """
        if self._session is None:
            self._session = self._opened()
        where = URL(str(url), encoded=True)  # else some of what is escaped would be unescaped, such as %3A
        try:
            way = way_to(where, headers) if self._proxied else Way(headers)
            answer = await self._session.request(
                method,
                where,
                headers=way.headers,
                data=content or None,
                allow_redirects=False,
                timeout=self._timeout,
                proxy=way.proxy,
                proxy_headers=way.to_proxy,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._error(error, sent=False) from error
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=AiohttpResponseStream(answer))

    async def read(self, response: httpx.Response) -> bytes:
        """The whole body.

        Raises:
            ProviderError: it broke off (`incomplete`), is over the bound, or was coded more than once (`server_error`).
        """
        parts: list[bytes] = []
        size = 0
        body = self._body(response)
        try:
            async for chunk in body:
                size += len(chunk)
                if size > self._max_response_bytes:
                    raise ProviderError(
                        f"provider {self._provider!r} answered with more than {self._max_response_bytes} bytes",
                        failure="server_error",
                        provider=self._provider,
                    )
                parts.append(chunk)
        except _BROKEN as error:
            raise self._error(error, sent=True) from error
        finally:
            await close(body)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """The body as it comes.

        Raises:
            ProviderError: it broke off (`incomplete`), or was coded more than once (`server_error`).
        """
        body = self._body(response)
        try:
            async for chunk in body:
                yield chunk
        except _BROKEN as error:
            raise self._error(error, sent=True) from error
        finally:
            await close(body)

    def _body(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The body as it comes, without what it was coded for the way.

        Raises:
            ProviderError: it was coded more than once (`server_error`): by that a few bytes can become gigabytes.
        """
        if plain_headers(response).get("content-encoding", "identity") != "identity":
            codings = [one.lower() for one in response.headers.get_list("content-encoding", split_commas=True)]
            if len(codings) > 1:
                what = f"provider {self._provider!r}: the answer is coded more than once"
                raise ProviderError(what, failure="server_error", provider=self._provider)
            if codings[0] in _CODINGS:
                return response.aiter_bytes()
        return aiter(cast("AsyncIterable[bytes]", response.stream))

    async def drain(self, chunks: AsyncIterator[bytes], seconds: float) -> None:
        """Read a stream that has said everything to its end, so that its connection can be used again."""
        until = asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError, ProviderError):
            async for _ in with_deadline(chunks, expired=TimeoutError, until=until):
                pass

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        """Await `work`, at most `seconds`.

        Raises:
            ProviderError: it took longer (`timeout`), or failed.
        """
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise ProviderError(
                f"provider {self._provider!r}: no answer within {seconds:g} s", failure="timeout", provider=self._provider
            ) from None

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _error(self, error: Exception, *, sent: bool) -> ProviderError:
        cause = error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error
        failure, what = _classify(cause, sent=sent)
        return ProviderError(f"provider {self._provider!r}: {what}", failure=failure, provider=self._provider)


def _classify(cause: BaseException, *, sent: bool) -> tuple[FailureClass, str]:
    """What a transport error means. The transport reports most of them as timeouts; the truth is in the cause."""
    match cause:
        case aiohttp.ConnectionTimeoutError():
            return "timeout", "no connection in time"
        case aiohttp.ServerTimeoutError() | asyncio.TimeoutError():
            return "timeout", "no answer in time"
        case aiohttp.ClientConnectorDNSError():
            return "connection", f"the name {cause.host!r} was not found"
        case aiohttp.ClientSSLError() | aiohttp.ClientConnectorCertificateError():
            return "connection", "the TLS handshake failed"
        case aiohttp.ClientConnectorError():
            return "connection", f"{cause.host}:{cause.port} refused or cannot be reached"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.ClientOSError():
            return "incomplete", "the connection broke before the answer was whole"
        case aiohttp.ClientHttpProxyError():
            return "connection", f"the proxy answered {cause.status}"
        case aiohttp.ClientResponseError():
            return "server_error", "the answer is not HTTP"
        case aiohttp.InvalidURL():
            return "connection", "the base URL is not a valid http(s) URL"
        case _:
            return ("incomplete", "the answer could not be read") if sent else ("connection", "the request could not be sent")


def plain_headers(response: httpx.Response) -> dict[str, str]:
    """The headers by lower-case name, the last of equal ones. Reading them from httpx's own takes microseconds each."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
