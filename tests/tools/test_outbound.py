"""Tools reach listed hosts only, and nothing private that is not listed as such (ssrf)."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from app.core.errors import QuorumError
from app.core.tools import ToolCaller
from app.tools.builtins.http_fetch import HttpFetch
from app.tools.outbound import Outbound, Reach
from tests.support.loopback import Answer, Loopback, as_json
from tests.tools.conftest import ME, MakeToolbox

WHO = ToolCaller("acme")


class Names(AbstractResolver):
    """Looks names up in a table: each time it is asked for the next row of a name."""

    def __init__(self, table: dict[str, list[list[str]]]) -> None:
        self._table = table
        self.asked: Counter[str] = Counter()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        rows = self._table[host]
        row = rows[min(self.asked[host], len(rows) - 1)]
        self.asked[host] += 1
        return [_found(host, port, address) for address in row]

    async def close(self) -> None:
        return None


def _found(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)


async def refused(url: str, *, hosts: tuple[str, ...], private: tuple[str, ...] = (), names: Names | None = None) -> str:
    """What fetching `url` is refused with."""
    outbound = Outbound(Reach(hosts, private), lambda: names) if names else Outbound(Reach(hosts, private))
    with pytest.raises(QuorumError) as error:
        await HttpFetch(outbound).run({"url": url}, WHO)
    await outbound.aclose()
    return error.value.code


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "[::127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[100::1]",
        "[2001:db8::1]",
        "localhost.",
        "metadata.localhost",
    ],
)
async def test_a_private_address_is_refused_though_its_host_is_listed(host: str) -> None:
    async with Loopback(as_json({})) as service:
        port = service.url.rpartition(":")[2]
        code = await refused(f"http://{host}:{port}/", hosts=(f"{host}:{port}",))
    assert code in ("forbidden", "invalid_request", "tool_unavailable")  # the last two for spellings that are no address here
    assert service.received == []
    print(f"ssrf: {host}: {code}, 0 connections")


@pytest.mark.parametrize(
    "url",
    [
        "http://other.test/",
        "http://good.test.evil.test/",
        "http://good.test@evil.test/",
        "http://evil.test#@good.test/",
        "http://evil.test?@good.test/",
        "http://evil.test\\@good.test/",
        "http://user:secret@good.test/",
        "http://good.test:22/",
        "file:///etc/passwd",
        "gopher://good.test/",
        "//good.test/",
        "good.test",
        "http://",
        "http://[::1",
    ],
)
async def test_what_is_no_listed_host_is_refused(url: str) -> None:
    names = Names({})
    assert await refused(url, hosts=("good.test",), names=names) in ("forbidden", "invalid_request")
    assert not names.asked


async def test_a_name_that_leads_to_a_private_address_too_is_refused_whole() -> None:
    names = Names({"good.test": [["93.184.216.34", "127.0.0.1"]]})
    assert await refused("http://good.test/", hosts=("good.test",), names=names) == "forbidden"


async def test_a_name_that_is_bound_anew_leads_nowhere() -> None:
    """The address that was checked is the one that is connected to: each connection looks up once."""
    async with Loopback(Answer(headers={"content-type": "text/plain", "connection": "close"}, body=b"in")) as service:
        port = service.url.rpartition(":")[2]
        names = Names({"good.test": [["127.0.0.1"], ["10.0.0.1"]]})
        host = f"good.test:{port}"
        outbound = Outbound(Reach((host,), (host,)), lambda: names)
        found: Any = await HttpFetch(outbound).run({"url": f"http://{host}/a"}, WHO)
        await outbound.aclose()
        assert found["body"] == "in"
        assert names.asked["good.test"] == 1
        assert service.received[0].headers["host"] == host
    rebound = Names({"good.test": [["127.0.0.1"]]})
    assert await refused(f"http://good.test:{port}/", hosts=(host,), names=rebound) == "forbidden"
    assert rebound.asked["good.test"] == 1


async def test_a_redirect_is_not_followed() -> None:
    async with Loopback(as_json({"secret": 1})) as inside, Loopback(Answer(302, {"location": inside.url}, b"")) as service:
        host = service.url.removeprefix("http://")
        assert await refused(f"{service.url}/", hosts=(host,), private=(host,)) == "tool_failed"
    assert inside.received == []


async def test_proxies_of_the_environment_are_left_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback(as_json({})) as proxy, Loopback(as_json({"direct": True})) as service:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        host = service.url.removeprefix("http://")
        outbound = Outbound(Reach((host,), (host,)))
        found: Any = await HttpFetch(outbound).run({"url": service.url}, WHO)
        await outbound.aclose()
    assert found["body"] == {"direct": True}
    assert proxy.received == []


async def test_fetching_is_denied_until_a_rule_allows_it(toolbox: MakeToolbox) -> None:
    async with Loopback(Answer(headers={"content-type": "text/html"}, body=b"<p>hello</p>")) as service:
        host = service.url.removeprefix("http://")
        with pytest.raises(QuorumError, match="http_fetch"):
            await toolbox(permissions=[], hosts=[host]).execute("http_fetch", {"url": service.url}, ME)
        box = toolbox(hosts=[host], private_hosts=[host])
        result = await box.execute("http_fetch", {"url": service.url}, ME)
        await box.close()
    assert result.value == {"status": 200, "content_type": "text/html", "body": "<p>hello</p>"}
