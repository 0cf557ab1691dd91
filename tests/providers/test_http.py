"""The HTTP boundary over real sockets: what each failure is called, and that connections are kept, counted and closed."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from app.core.errors import ProviderError
from app.providers.http import HttpClient
from tests.core.speaking import nothing_left
from tests.support.ports import free_port

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Server:
    """A server that says what a test wants said. `accepted` counts connections, `heads` are the requests' heads."""

    url: httpx.URL = field(default_factory=httpx.URL)
    accepted: int = 0
    heads: list[bytes] = field(default_factory=list)
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def all_closed(self, seconds: float = 1.0) -> None:
        async with asyncio.timeout(seconds):
            while self.open:
                await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(answer: bytes | Talk, *, once: bool = False) -> AsyncIterator[Server]:
    """`answer` is written to each request, or talks. With `once` each connection is closed after one answer."""
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.accepted += 1
        server.open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                server.heads.append(head)
                if callable(answer):
                    await answer(reader, writer)
                else:
                    writer.write(answer)
                    await writer.drain()
                if once:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            server.open.discard(writer)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.url = httpx.URL(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")
    try:
        yield server
    finally:
        listener.close()
        for writer in list(server.open):
            writer.transport.abort()
        while server.open:
            await asyncio.sleep(0)


@asynccontextmanager
async def client(**options: float) -> AsyncIterator[HttpClient]:
    http = HttpClient("p", **{"connect_s": 5.0, "max_connections": 8, **options})  # type: ignore[arg-type]
    try:
        yield http
    finally:
        await http.aclose()


async def get(http: HttpClient, url: httpx.URL | str) -> bytes:
    response = await http.send("GET", httpx.URL(url), {"accept-encoding": "identity"})
    try:
        return await http.read(response)
    finally:
        await response.aclose()


async def post(http: HttpClient, url: httpx.URL | str) -> bytes:
    response = await http.send("POST", httpx.URL(url), {})
    try:
        return await http.read(response)
    finally:
        await response.aclose()


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Say nothing more until the client is gone."""
    await reader.read()
    raise ConnectionError


async def hang_in_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
    await hang(reader, writer)


# what failures are called


async def test_a_refused_connection_is_a_connection_failure() -> None:
    port = free_port()
    async with client() as http:
        with pytest.raises(ProviderError, match=f"127.0.0.1:{port} refused or cannot be reached") as caught:
            await get(http, f"http://127.0.0.1:{port}/")
    assert caught.value.failure == "connection"


async def test_an_unknown_name_is_a_connection_failure_that_says_the_name() -> None:
    async with client() as http:
        with pytest.raises(ProviderError, match=r"the name 'nowhere.invalid' was not found") as caught:
            await get(http, "http://nowhere.invalid/")
    assert caught.value.failure == "connection"


async def test_tls_to_a_plain_port_is_a_connection_failure() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with client() as http:
        with pytest.raises(ProviderError, match="TLS") as caught:
            await get(http, f"https://127.0.0.1:{port}/")
    listener.close()
    assert caught.value.failure == "connection"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 banana\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"])
async def test_an_answer_that_is_not_http_is_a_server_error(answer: bytes) -> None:
    async with serving(answer) as server, client() as http:
        with pytest.raises(ProviderError, match="not HTTP") as caught:
            await post(http, server.url)
    assert caught.value.failure == "server_error"


async def test_a_connection_that_is_closed_before_the_headers_is_incomplete() -> None:
    async with serving(b"", once=True) as server, client() as http:
        with pytest.raises(ProviderError, match="broke before the answer was whole") as caught:
            await post(http, server.url)
    assert caught.value.failure == "incomplete"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\nshort",
        b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(b"x", mtime=0)[:15],
    ],
)
async def test_a_body_that_breaks_off_is_incomplete(answer: bytes) -> None:
    async with serving(answer, once=True) as server, client() as http:
        with pytest.raises(ProviderError) as caught:
            await post(http, server.url)
    assert caught.value.failure == "incomplete"


async def test_a_body_that_does_not_decode_is_incomplete() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-encoding: gzip\r\n\r\nno gzip"
    async with serving(answer) as server, client() as http:
        with pytest.raises(ProviderError, match="could not be read") as caught:
            await get(http, server.url)
    assert caught.value.failure == "incomplete"


async def test_no_free_connection_in_time_is_a_timeout() -> None:
    async with serving(hang) as server, client(max_connections=1, connect_s=0.05) as http:
        holder = asyncio.create_task(post(http, server.url))
        while not server.heads:
            await asyncio.sleep(0)
        with pytest.raises(ProviderError, match="no connection in time") as caught:
            await post(http, server.url)
        holder.cancel()
        await asyncio.wait([holder])
    assert caught.value.failure == "timeout"


async def test_slow_headers_are_a_timeout_of_whoever_bounds_the_work() -> None:
    async with serving(hang) as server, client() as http:
        with pytest.raises(ProviderError, match=r"no answer within 0.02 s") as caught:
            await http.within(0.02, get(http, server.url))
        await server.all_closed()
    assert caught.value.failure == "timeout"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///path"])
async def test_a_url_that_cannot_be_asked_is_a_connection_failure(url: str) -> None:
    async with client() as http:
        with pytest.raises(ProviderError) as caught:
            await get(http, url)
    assert caught.value.failure == "connection"


async def test_a_header_that_would_split_the_request_is_not_sent() -> None:
    async with serving(GOOD) as server, client() as http:
        with pytest.raises(ProviderError, match="could not be sent"):
            await http.send("GET", server.url, {"x": "a\r\nb: c"})
        assert server.heads == []


@pytest.mark.parametrize(
    "target",
    ["/models/a%2Fb%3Ac%40d", "/m:act", "/a%20b?key=x%2By%2Fz%3D&to=https%3A%2F%2Fh", "/a+b?c+d", "/%7Eme", "/?sig=%2f%3d"],
)
async def test_a_url_is_asked_as_it_is_written(target: str) -> None:
    async with serving(GOOD) as server, client() as http:
        await get(http, server.url.join(target))
        assert server.heads[0].partition(b" HTTP/1.1\r\n")[0] == b"GET " + target.encode()


async def test_what_cannot_stand_in_a_request_line_is_quoted() -> None:
    async with serving(GOOD) as server, client() as http:
        await get(http, server.url.join("/a b/ü?q= HTTP/1.1"))
        assert server.heads[0].startswith(b"GET /a%20b/%C3%BC?q=%20HTTP/1.1 HTTP/1.1\r\n")


# what is read


async def test_a_compressed_answer_is_decoded() -> None:
    body = gzip.compress(b"hello " * 10_000, mtime=0)
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    async with serving(head + body) as server, client() as http:
        assert await get(http, server.url) == b"hello " * 10_000


@pytest.mark.parametrize("codings", ["content-encoding: gzip, gzip", "content-encoding: gzip\r\ncontent-encoding: GZIP"])
async def test_what_was_compressed_twice_is_not_unpacked_since_that_makes_gigabytes_of_kilobytes(codings: str) -> None:
    body = gzip.compress(gzip.compress(b"x" * 1000, mtime=0), mtime=0)
    head = f"HTTP/1.1 200 OK\r\n{codings}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    async with serving(head + body) as server, client() as http:
        with pytest.raises(ProviderError, match="coded more than once") as caught:
            await get(http, server.url)
        assert caught.value.failure == "server_error"
        response = await http.send("GET", server.url, {})
        with pytest.raises(ProviderError, match="coded more than once"):
            await anext(http.chunks(response))
        await response.aclose()


@pytest.mark.parametrize("coding", ["utf-8", "br", ""])
async def test_a_coding_that_is_none_of_ours_leaves_the_body_as_it_is(coding: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: 2\r\n\r\nok".encode()
    async with serving(answer) as server, client() as http:
        assert await get(http, server.url) == b"ok"


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_body_longer_than_the_bound_is_a_server_error_and_its_connection_is_closed(coding: str) -> None:
    body = b"x" * 200_000 if coding == "identity" else gzip.compress(b"x" * 200_000, mtime=0)
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(body) + 1}\r\n\r\n".encode()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + body)
        await hang(reader, writer)

    async with serving(endless) as server, client(max_response_bytes=100_000) as http:
        with pytest.raises(ProviderError, match="more than 100000 bytes") as caught:
            await get(http, server.url)
        await server.all_closed()
    assert caught.value.failure == "server_error"


async def test_redirects_are_not_followed_and_cookies_not_kept() -> None:
    answer = b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\nset-cookie: a=b; Path=/\r\ncontent-length: 0\r\n\r\n"
    async with serving(answer) as server, client() as http:
        for _ in range(2):
            response = await http.send("GET", server.url, {})
            assert response.status_code == 302
            await response.aclose()
        assert len(server.heads) == 2
        assert not any(b"cookie" in head.lower() for head in server.heads)


async def test_no_header_is_added_that_would_ask_for_compression() -> None:
    async with serving(GOOD) as server, client() as http:
        await get(http, server.url)
        assert b"accept-encoding: identity" in server.heads[0].lower()


# connections


async def test_a_connection_whose_answer_was_read_is_used_again() -> None:
    async with serving(GOOD) as server, client() as http:
        for _ in range(20):
            assert await post(http, server.url) == b"ok"
        assert server.accepted == 1


async def test_there_are_never_more_connections_than_allowed() -> None:
    async with serving(GOOD) as server, client(max_connections=3) as http:
        assert await asyncio.gather(*(post(http, server.url) for _ in range(30))) == [b"ok"] * 30
        assert server.accepted == 3


async def test_a_drained_stream_gives_its_connection_back_and_one_that_does_not_end_costs_it() -> None:
    async def says_end_then_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nDONE\r\n")
        await writer.drain()
        if len(server.heads) > 2:
            await hang(reader, writer)
        writer.write(b"0\r\n\r\n")

    async def read_to_done(seconds: float) -> None:
        response = await http.send("POST", server.url, {})
        async with aclosing(http.chunks(response)) as chunks:
            assert await anext(chunks) == b"DONE"
            await http.drain(chunks, seconds)
        await response.aclose()

    async with serving(says_end_then_ends) as server, client() as http:
        await read_to_done(5)
        await read_to_done(5)
        assert server.accepted == 1
        await read_to_done(0.01)
        await server.all_closed()


@pytest.mark.parametrize("talk", [hang, hang_in_body], ids=["waiting for headers", "in the body"])
async def test_a_cancelled_call_closes_its_socket(talk: Talk) -> None:
    async with serving(talk) as server, client() as http:
        call = asyncio.create_task(post(http, server.url))
        while not server.heads:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01 if talk is hang_in_body else 0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.all_closed()


async def test_a_body_that_is_left_in_its_middle_leaves_no_generator_behind() -> None:
    async with serving(hang_in_body) as server, client() as http:
        with nothing_left():
            response = await http.send("POST", server.url, {})
            async with aclosing(http.chunks(response)) as chunks:
                assert await anext(chunks) == b"abc"
                started = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
            await response.aclose()
            await server.all_closed()
            await asyncio.wait(started, timeout=1)


async def test_a_call_that_is_cancelled_while_it_connects_leaves_no_socket() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        filling = []
        for _ in range(2):  # its queue is full then: further connections are not answered
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
            filling.append(one)
        async with client() as http:
            before = descriptors()
            call = asyncio.create_task(post(http, f"http://127.0.0.1:{deaf.getsockname()[1]}/"))
            async with asyncio.timeout(5):
                while descriptors() == before:
                    await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert not call.done()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            async with asyncio.timeout(1):
                while descriptors() != before:
                    await asyncio.sleep(0)
        for one in filling:
            one.close()


async def test_two_thousand_cancelled_calls_leave_the_pool_whole() -> None:
    chance = random.Random(15)

    async def sometimes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if cancelling and chance.random() < 0.3:
            await hang_in_body(reader, writer)
        writer.write(GOOD)
        await writer.drain()

    async def cancelled() -> None:
        call = asyncio.create_task(post(http, server.url))
        for _ in range(chance.randrange(25)):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()

    cancelling = True
    async with serving(sometimes) as server, client(max_connections=4) as http:
        for _ in range(200):
            await asyncio.gather(*(cancelled() for _ in range(10)))
        cancelling = False
        async with asyncio.timeout(5):
            assert await asyncio.gather(*(post(http, server.url) for _ in range(50))) == [b"ok"] * 50
        assert len(server.open) <= 4
