"""Reliability test 19: whatever comes as a body, the answer is a 4xx that says why, and the service lives on."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.serving import AT_ONCE, Serving, serving, until

pytestmark = pytest.mark.timeout(180)

MB = 1_000_000
LIMIT = 200_000
CONFIG = {"providers": {"mock": AT_ONCE}, "limits": {"max_body_bytes": LIMIT, "max_messages": 50}}
ROUTES = ["/v1/chat/completions", "/v1/orchestrations", "/v1/providers"]
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "mock/mock-terse", "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/orchestrations": {"input": "Hi", "strategy": "direct"},
    "/v1/providers": {"name": "another", "kind": "mock"},
}


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey) -> Any:
    async with serving(tmp_path, valkey.url, CONFIG, body_s=0.3) as running:
        yield running
        assert (await running.client.get("/healthz")).status_code == 200
        answer = await running.client.post("/v1/orchestrations", json=GOOD["/v1/orchestrations"])
        assert answer.status_code == 200


async def refused(service: Serving, route: str, content: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """The status and the problem document of a body that must be refused."""
    answer = await service.client.post(route, content=content, headers={"content-type": "application/json", **headers})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-should-retry"] == ("true" if answer.status_code == 408 else "false")
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"] == problem["error"]["message"]
    return answer.status_code, problem


NOT_JSON = {
    "empty": b"",
    "blank": b"  \n",
    "half": b'{"model": "m", "mess',
    "two": b"{}{}",
    "comment": b"{/* */}",
    "NaN": b'{"metadata": {"x": NaN}}',
    "Infinity": b'{"metadata": {"x": -Infinity}}',
    "bad UTF-8": b'{"input": "\xff\xfe"}',
    "overlong UTF-8": b'{"input": "\xc0\xaf"}',
    "UTF-16": '{"input": "Hi"}'.encode("utf-16"),
    "lone surrogate": b'{"input": "\\ud800"}',
    "lone low surrogate": b'{"input": "\\udc00 x"}',
    "control character": b'{"input": "a\x00b"}',
    "trailing comma": b'{"input": "Hi",}',
    "binary": bytes(range(256)) * 10,
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
async def test_what_is_not_json(service: Serving, route: str, content: bytes) -> None:
    status, problem = await refused(service, route, content)
    assert status == 400
    assert "JSON" in problem["detail"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("content", [b"[]", b"null", b"1", b'"text"', b"true", b"[{}]"])
async def test_what_is_no_object(service: Serving, route: str, content: bytes) -> None:
    _, problem = await refused(service, route, content)
    assert problem["detail"].startswith("the body: ")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"messages":['])
async def test_depth_of_a_million(tmp_path: Path, valkey: EmbeddedValkey, route: str, opening: bytes) -> None:
    async with serving(tmp_path, valkey.url, {"providers": {"mock": AT_ONCE}}) as service:
        status, problem = await refused(service, route, opening * 1_000_000)
        assert status == 400
        assert problem["detail"] == "the body nests deeper than 64 levels, the limit of this service"


async def test_brackets_in_texts_are_no_depth(service: Serving) -> None:
    for text in ("[" * 5_000, "\\" * 999 + '"' + "{" * 5_000, '"[' * 900):
        answer = await service.client.post("/v1/orchestrations", json={"input": text, "strategy": "direct"})
        assert answer.status_code == 200


@pytest.mark.parametrize("route", ROUTES)
async def test_a_body_that_is_declared_too_large_is_refused_unread(service: Serving, route: str) -> None:
    status, problem = await refused(service, route, b"x" * (LIMIT + 1))
    assert status == 413
    assert str(LIMIT) in problem["detail"]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_gigabyte_is_cut_at_the_limit(tmp_path: Path, valkey: EmbeddedValkey, declared: bool) -> None:
    """Streamed for real until the service closes the connection, which must be long before the end."""
    sent = 0

    def gigabyte() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * MB

    async with serving(tmp_path, valkey.url) as service:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        length = {"content-length": str(1000 * MB)} if declared else {}
        url = f"{service.url}/v1/orchestrations"
        answer = await asyncio.to_thread(httpx.post, url, content=gigabyte(), headers=length, trust_env=False)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "too_large"
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"hostile-body: a gigabyte is refused after {sent} MB, with {more:.0f} MB more of memory")
        assert sent < 50
        assert more < 50
        assert (await service.client.get("/healthz")).status_code == 200


async def test_a_slow_body_is_cut_off(service: Serving) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/orchestrations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    answer = await asyncio.wait_for(reader.read(), 5)  # to the end: the connection is closed as well
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.3 s" in answer


async def test_endless_headers_are_cut_off(service: Serving) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Much: ")
    sent = 0
    try:
        for _ in range(200):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 1
    except ConnectionError:
        pass
    writer.close()
    assert sent < 200
    await until(lambda: service.connections == 0)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_giant_header_value(service: Serving, route: str) -> None:
    status, problem = await refused(service, route, b"{}", **{"x-much": "x" * 20_000})
    assert status == 431
    assert problem["error"]["code"] == "headers_too_large"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
async def test_content_types_that_are_not_json(service: Serving, kind: str) -> None:
    status, _ = await refused(service, "/v1/orchestrations", b'{"input": "Hi"}', **{"content-type": kind})
    assert status == 415


CHAT, RUN, PROVIDER = ROUTES


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


HUGE = 10**400
WRONG: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"nonsense": 1}, "nonsense"),
    (CHAT, {"model": 7}, "model"),
    (CHAT, {"model": ""}, "model"),
    (CHAT, {"model": "x" * 300}, "model"),
    (CHAT, {"messages": "Hi"}, "messages"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": "x"}] * 5_000}, "messages"),
    (CHAT, {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages"),
    (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages.0.content.0"),
    (CHAT, {"messages": [{"role": "user", "content": [image("file:///etc/passwd")]}]}, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": [image("data:image/png;base64,%%%")]}]}, "messages"),
    (CHAT, {"temperature": "hot"}, "temperature"),
    (CHAT, {"temperature": 1e308}, "temperature"),
    (CHAT, {"n": "2"}, "n"),
    (CHAT, {"n": 0}, "n"),
    (CHAT, {"n": 9}, "n"),
    (CHAT, {"n": 2**80}, "n"),
    (CHAT, {"max_tokens": 2**62}, "max_tokens"),
    (CHAT, {"max_tokens": 2**70}, "max_tokens"),
    (CHAT, {"seed": 2**63}, "seed"),
    (CHAT, {"seed": HUGE}, ""),
    (CHAT, {"stream": "yes"}, "stream"),
    (CHAT, {"stream": 1}, "stream"),
    (CHAT, {"stop": [1]}, "stop.0"),
    (CHAT, {"logit_bias": {"5": 1}}, "logit_bias"),
    (CHAT, {"functions": [{"name": "f"}]}, "functions"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
    (CHAT, {"tool_choice": "required"}, "tool_choice"),
    (CHAT, {"response_format": {"type": "json_schema"}}, "response_format"),
    (CHAT, {"quorum": {"options": 5}}, "quorum.options"),
    (CHAT, {"quorum": {"nonsense": 5}}, "quorum.nonsense"),
    (RUN, {"input": ""}, "input"),
    (RUN, {"input": []}, "input"),
    (RUN, {"input": None}, "input"),
    (RUN, {"strategy": "nope"}, "strategy"),
    (RUN, {"recipe": "nope"}, "recipe"),
    (RUN, {"models": "mock/mock-terse"}, "models"),
    (RUN, {"models": ["nope"]}, "model"),
    (RUN, {"models": ["mock/mock-terse"] * 100}, "models"),
    (RUN, {"options": {"nope": 1}}, "options.nope"),
    (RUN, {"strategy": "simple", "options": {"layers": 2**70}}, "options.layers"),
    (RUN, {"generation": {"temperature": 3}}, "generation.temperature"),
    (RUN, {"generation": {"seed": -(2**70)}}, "generation.seed"),
    (RUN, {"budget": {"seconds": -1}}, "budget.seconds"),
    (RUN, {"budget": {"tokens": 0}}, "budget.tokens"),
    (RUN, {"background": "yes"}, "background"),
    (RUN, {"priority": "first"}, "priority"),
    (RUN, {"priority": "high"}, "priority"),
    (RUN, {"webhook": "https://example.org"}, "webhook"),
    (PROVIDER, {"name": "../x"}, "name"),
    (PROVIDER, {"name": "x" * 65}, "name"),
    (PROVIDER, {"kind": "smtp"}, "kind"),
    (PROVIDER, {"kind": "replay", "options": {"file": "/etc/passwd"}}, "kind"),
    (PROVIDER, {"kind": "openai", "api_key": 5}, "api_key"),
    (PROVIDER, {"kind": "openai", "headers": {"a": 5}}, "headers.a"),
    (PROVIDER, {"kind": "openai", "api_key": "k", "base_url": "http://169.254.169.254/v1"}, "base_url"),
]


@pytest.mark.parametrize(("route", "member", "param"), WRONG, ids=[f"{w[0][4:8]}-{json.dumps(w[1])[:60]}" for w in WRONG])
async def test_a_wrong_member_is_named(service: Serving, route: str, member: dict[str, Any], param: str) -> None:
    status, problem = await refused(service, route, json.dumps({**GOOD[route], **member}).encode())
    assert status in (400, 404)
    assert (problem["error"]["param"] or "") == param


@pytest.mark.parametrize("route", ROUTES)
async def test_a_missing_member_is_named(service: Serving, route: str) -> None:
    for name in [name for name in GOOD[route] if name != "strategy"]:
        body = {key: value for key, value in GOOD[route].items() if key != name}
        _, problem = await refused(service, route, json.dumps(body).encode())
        assert problem["error"]["param"] == name
        assert problem["detail"] == f"{name}: is missing"


async def test_of_a_member_that_stands_twice_the_last_counts(service: Serving) -> None:
    """As in every JSON parser in use; RFC 8259, section 4, leaves it open."""
    body = b'{"input": 5, "input": "Hi", "strategy": "direct"}'
    answer = await service.client.post("/v1/orchestrations", content=body)
    assert answer.status_code == 200


async def test_numbers_in_metadata_come_back_as_json(service: Serving) -> None:
    body = b'{"input": "Hi", "strategy": "direct", "metadata": {"big": 123456789012345678901234567890, "small": 5e-324}}'
    answer = await service.client.post("/v1/orchestrations", content=body)
    assert answer.json()["metadata"] == {"big": 123456789012345678901234567890.0, "small": 5e-324}
