"""Providers are reached by the proxies that the environment names, and are told nothing else that stands around there."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from app.core.errors import ProviderError
from tests.providers.test_http import GOOD, client, get, post, serving

ELSEWHERE = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"
CREDENTIAL = b"proxy-authorization: Basic " + b64encode(b"me:p@ss")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_a_plain_request_is_handed_to_the_proxy_with_its_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(GOOD) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.url.port}")
        async with client() as http:
            assert await get(http, "http://provider.invalid/v1/a%3Ab") == b"ok"
    (head,) = proxy.heads
    assert head.startswith(b"GET http://provider.invalid/v1/a%3Ab HTTP/1.1\r\n")
    assert CREDENTIAL.lower() in head.lower()


async def test_a_proxy_may_be_named_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(GOOD) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.url.port}")
        async with client() as http:
            assert await get(http, "http://provider.invalid/") == b"ok"
    assert len(proxy.heads) == 1


async def test_a_request_over_tls_goes_through_a_tunnel_that_alone_gets_the_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(ELSEWHERE) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.url.port}")
        async with client() as http:
            with pytest.raises(ProviderError, match="the proxy answered 403") as caught:
                await get(http, "https://provider.invalid/v1")
    assert caught.value.failure == "connection"
    (head,) = proxy.heads
    assert head.startswith(b"CONNECT provider.invalid:443 HTTP/1.1\r\n")
    assert CREDENTIAL.lower() in head.lower()


async def test_a_host_that_is_excepted_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(ELSEWHERE) as proxy, serving(GOOD) as server:
        monkeypatch.setenv("HTTP_PROXY", str(proxy.url))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with client() as http:
            assert await get(http, server.url) == b"ok"
    assert proxy.heads == []


async def test_credentials_of_a_netrc_file_are_nobodys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    async with serving(GOOD) as server, client() as http:
        assert await post(http, server.url) == b"ok"
        response = await http.send("POST", server.url, {"authorization": "Bearer ours"})
        await response.aclose()
    first, second = server.heads
    assert b"authorization" not in first.lower()
    assert b"authorization: Bearer ours" in second


@pytest.mark.parametrize("named", ["http://[::1", "http://", "//x"])
async def test_a_proxy_that_is_no_url_is_a_connection_failure(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", named)
    async with client() as http:
        with pytest.raises(ProviderError) as caught:
            await get(http, "http://provider.invalid/")
    assert caught.value.failure == "connection"
