"""A provider registered at run time does not lead into our own network."""

from __future__ import annotations

import pytest

from app.core.errors import InvalidRequest
from app.providers.destinations import check_destination


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a00:1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[::127.0.0.1]",
        "localhost",
        "LOCALHOST",
    ],
)
async def test_private_addresses_are_refused_however_they_are_written(host: str) -> None:
    with pytest.raises(InvalidRequest, match="not public") as caught:
        await check_destination(f"http://{host}:8080/v1", ())
    assert caught.value.param == "base_url"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://8.8.8.8/",
        "//8.8.8.8",
        "8.8.8.8",
        "http://",
        "http://user@8.8.8.8/",
        "http://user:pass@8.8.8.8/",
        "http://8.8.8.8/#@127.0.0.1",
        "http://8.8.8.8/?x=1",
        "http://8.8.8.8:port/",
        "http://[::1",
        "",
    ],
)
async def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="base_url"):
        await check_destination(url, ())


@pytest.mark.parametrize(
    "url", ["http://nowhere.invalid/", "http://0177.0.0.1/", f"http://{'a' * 64}.com/", f"http://{'a.' * 200}com/"]
)
async def test_a_name_that_cannot_be_resolved_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="base_url"):
        await check_destination(url, ())


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700:4700::1111]", "[64:ff9b::808:808]", "[::ffff:8.8.8.8]"])
async def test_public_addresses_are_taken(host: str) -> None:
    await check_destination(f"https://{host}/v1", ())


async def test_a_listed_host_may_be_private_and_no_other() -> None:
    await check_destination("http://127.0.0.1:11434/v1", ("127.0.0.1",))
    await check_destination("http://localhost:11434/v1", ("localhost",))
    with pytest.raises(InvalidRequest):
        await check_destination("http://127.0.0.2/", ("127.0.0.1",))
