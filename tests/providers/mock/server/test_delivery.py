"""How answers go out, byte by byte: pace, faults, and what a client does."""

from __future__ import annotations

import time
from typing import Any

import httpx
import orjson
import pytest

PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/mock-swift:streamGenerateContent?alt=sse",
}


def body(dialect: str, prompt: str = "Explain tides") -> dict[str, Any]:
    if dialect == "gemini":
        return {"contents": [{"parts": [{"text": prompt}]}]}
    return {"model": "mock-swift", "max_tokens": 500, "stream": True, "messages": [{"role": "user", "content": prompt}]}


def post(url: str, dialect: str, prompt: str = "Explain tides", **headers: str) -> httpx.Response:
    names = {f"X-Mock-{name.replace('_', '-')}": value for name, value in headers.items()}
    return httpx.post(url + PATHS[dialect], json=body(dialect, prompt), headers=names, timeout=5)


@pytest.mark.parametrize("dialect", PATHS)
def test_headers_choose_the_chunks(url: str, dialect: str):
    deltas = [
        line for line in post(url, dialect, chunks="40").text.splitlines() if line.startswith("data:") and '"text' in line
    ]
    contents = [line for line in post(url, dialect, chunks="40").text.splitlines() if '"content":"' in line]
    assert max(len(deltas), len(contents)) >= 40
    assert post(url, dialect, chunks="40").text == post(url, dialect, chunks="40").text


@pytest.mark.parametrize("dialect", PATHS)
def test_headers_choose_the_pace(url: str, dialect: str):
    started = time.monotonic()
    post(url, dialect, latency_ms="80", chunk_ms="10", chunks="5")
    assert time.monotonic() - started >= 0.11


@pytest.mark.parametrize("dialect", PATHS)
def test_a_truncated_stream_has_a_beginning_and_no_end(url: str, dialect: str):
    whole = post(url, dialect, chunks="40").text
    two, three = (post(url, dialect, chunks="40", fault=f"truncate:{n}").text for n in (2, 3))
    assert two
    assert whole.startswith(three)
    assert three.startswith(two)
    assert len(two) < len(three) < len(whole) / 2


@pytest.mark.parametrize("dialect", PATHS)
def test_an_error_in_mid_stream_is_an_event(url: str, dialect: str):
    response = post(url, dialect, fault="midstream-error:2")
    assert response.status_code == 200
    last = orjson.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))
    assert "verloaded" in last["error"]["message"]


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("fault", ["reset", "reset:2"])
def test_a_reset_breaks_the_connection(url: str, dialect: str, fault: str):
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        post(url, dialect, fault=fault)


@pytest.mark.parametrize("dialect", PATHS)
def test_garbage_is_no_json(url: str, dialect: str):
    response = post(url, dialect, fault="garbage:1")
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("fault", ["hang", "hang:1", "timeout"])
def test_a_hang_says_nothing_more(url: str, dialect: str, fault: str):
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url + PATHS[dialect], json=body(dialect), headers={"x-mock-fault": fault}, timeout=0.2)


def test_a_whole_answer_can_be_cut_too(url: str):
    response = httpx.post(url + PATHS["openai"], json=body("openai") | {"stream": False}, headers={"x-mock-fault": "truncate"})
    assert response.status_code == 200
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(response.content)


def test_times_is_counted_by_prompt(url: str):
    statuses = [post(url, "openai", "Count this", fault="503", times="2").status_code for _ in range(4)]
    assert statuses == [503, 503, 200, 200]


def test_a_directive_in_the_prompt_works_over_http(url: str):
    assert post(url, "anthropic", "Hi [[mock: fault=529]]").status_code == 529


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"messages": 3, "contents": {}, "model": "x", "max_tokens": 1}'])
def test_a_body_that_is_none_is_a_400(url: str, dialect: str, content: bytes):
    response = httpx.post(url + PATHS[dialect], content=content)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_gemini_streams_a_json_array_without_alt_sse(url: str):
    chunks = httpx.post(f"{url}/v1beta/models/mock-swift:streamGenerateContent", json=body("gemini")).json()
    assert len(chunks) > 2
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
