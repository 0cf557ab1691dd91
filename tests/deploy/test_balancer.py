"""The load balancer's configuration in a real nginx, between a client and replicas that are fakes on loopback."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.needs import needs

CONFIGURATION = Path(__file__).parents[2] / "deploy/nginx/nginx.conf"
REPLICA = re.compile(r"server quorum:8000 resolve (.*);")


def configuration(directory: Path, replicas: Sequence[str]) -> Path:
    """Ours, with its replicas by address: outside Docker their name means nothing, and nginx before 1.27.3 has no `resolve`."""
    text = CONFIGURATION.read_text()
    options = REPLICA.search(text)
    assert options is not None
    servers = "\n    ".join(f"server {replica.removeprefix('http://')} {options[1]};" for replica in replicas)
    text = REPLICA.sub(servers, text)
    text = re.sub(r"^ *resolver .*$", "", text, flags=re.MULTILINE)
    text = text.replace("/tmp/", f"{directory}/").replace("listen 8080", f"listen unix:{directory}/balancer.sock")
    path = directory / "nginx.conf"
    path.write_text(text)
    return path


@asynccontextmanager
async def balancer(*replicas: str) -> AsyncIterator[httpx.AsyncClient]:
    """nginx before `replicas`, and a client of it."""
    with TemporaryDirectory(prefix="balancer-") as directory:  # a socket's path must be short
        async with nginx(Path(directory), replicas) as client:
            yield client


@asynccontextmanager
async def nginx(directory: Path, replicas: Sequence[str]) -> AsyncIterator[httpx.AsyncClient]:
    where = configuration(directory, replicas)
    process = await asyncio.create_subprocess_exec(
        needs("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(where), "-g", "daemon off; master_process off;"
    )
    try:
        async with asyncio.timeout(10):
            while not accepts(directory / "balancer.sock"):
                assert process.returncode is None, "nginx refused the configuration"
                await asyncio.sleep(0.01)
        transport = httpx.AsyncHTTPTransport(uds=str(directory / "balancer.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://quorum.example", timeout=10) as client:
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


async def test_an_event_arrives_while_the_stream_is_still_open() -> None:
    event = "data: one\n\n"
    async with (
        Loopback(sse(event, hold_after=len(event))) as replica,
        balancer(replica.url) as client,
        client.stream("POST", "/v1/chat/completions", json={"stream": True}) as response,
    ):
        first = await anext(response.aiter_text())

    assert first == event


async def test_a_client_that_leaves_closes_the_replicas_connection() -> None:
    event = "data: one\n\n"
    async with Loopback(sse(event, hold_after=len(event))) as replica, balancer(replica.url) as client:
        async with client.stream("POST", "/v1/chat/completions", json={}) as response:
            await anext(response.aiter_text())
        async with asyncio.timeout(1):
            await replica.received[0].closed.wait()


async def test_request_id_trace_and_credential_pass_through_both_ways() -> None:
    sent = {
        "x-request-id": "r-1",
        "traceparent": "00-a-b-01",
        "authorization": "Bearer k",
        "idempotency-key": "i",
        "last-event-id": "7",
    }
    answer = Answer(headers={"content-type": "application/json", "x-request-id": "r-1"})
    async with Loopback(answer) as replica, balancer(replica.url) as client:
        response = await client.get("/v1/models", headers=sent)

    received = replica.received[0].headers
    assert {name: received.get(name) for name in sent} == sent
    assert received["host"] == "quorum.example"
    assert response.headers["x-request-id"] == "r-1"


async def test_a_post_goes_to_another_replica_when_one_cannot_be_reached() -> None:
    with socket.socket() as taken:  # bound and not listening: it refuses
        taken.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with Loopback(as_json({"ok": True})) as replica, balancer(gone, replica.url) as client:
            answers = [await client.post("/v1/orchestrations", json={}) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 6


async def test_a_post_that_a_replica_has_received_is_not_repeated() -> None:
    def drop(_: Received) -> Answer:
        raise ConnectionResetError

    async with Loopback(drop) as one, Loopback(drop) as other, balancer(one.url, other.url) as client:
        answer = await client.post("/v1/orchestrations", json={})

    assert answer.status_code == 502
    assert len(one.received) + len(other.received) == 1


async def test_a_body_too_big_for_the_service_still_reaches_it_to_be_refused_there() -> None:
    async with Loopback(as_json({}, 413)) as replica, balancer(replica.url) as client:
        await client.post("/v1/orchestrations", content=b"x" * 21_000_000)
        refused = await client.post("/v1/orchestrations", content=b"x" * 40_000_000)

    assert len(replica.received[0].body) == 21_000_000
    assert (refused.status_code, len(replica.received)) == (413, 1)


async def test_metrics_are_not_for_the_world() -> None:
    async with Loopback(as_json({})) as replica, balancer(replica.url) as client:
        answer = await client.get("/metrics")

    assert (answer.status_code, replica.received) == (404, [])
