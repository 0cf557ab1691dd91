from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from pydantic import SecretStr

from app.config.spec import LLMProvider
from app.core.errors import ConflictError, NotFound
from app.state.client import StateClient
from app.state.dynamic_providers import DynamicProviders, ProviderFeed
from app.state.secrets import Secret

AZURE = LLMProvider(
    kind="openai_compatible",
    base_url="https://azure.example/v1",
    api_key=SecretStr("sk-canary-key"),
    headers={"x-token": "canary-header"},
    query={"api-version": "canary-query"},
)


@pytest.fixture
def providers(state: StateClient, secret: Secret) -> DynamicProviders:
    return DynamicProviders(state, secret)


async def test_a_registered_provider_comes_back_whole_and_is_stored_encrypted(
    providers: DynamicProviders, state: StateClient
) -> None:
    await providers.add("azure", AZURE)
    assert await providers.all() == {"azure": AZURE}
    stored = b"".join([await state.commands.dump(name) for name in await state.commands.keys()])
    assert b"canary" not in stored
    assert b"azure.example" not in stored


async def test_the_listing_gives_no_secret_away(providers: DynamicProviders) -> None:
    await providers.add("azure", AZURE)
    listing = await providers.listing()
    assert "canary" not in repr(listing)
    assert listing["azure"]["has_key"] is True
    assert listing["azure"]["headers"] == ["x-token"]


async def test_a_taken_name_is_refused_unless_it_is_to_be_replaced(providers: DynamicProviders) -> None:
    await providers.add("azure", AZURE)
    with pytest.raises(ConflictError, match="'azure' is registered already"):
        await providers.add("azure", LLMProvider(kind="mock"))
    await providers.add("azure", LLMProvider(kind="mock"), replace=True)
    assert (await providers.all())["azure"].kind == "mock"
    await providers.remove("azure")
    assert await providers.all() == {}
    with pytest.raises(NotFound):
        await providers.remove("azure")


async def test_a_provider_stored_with_another_secret_is_left_out_and_named_in_the_log(
    providers: DynamicProviders, state: StateClient, caplog: pytest.LogCaptureFixture
) -> None:
    await DynamicProviders(state, Secret("another secret, long enough")).add("old", AZURE)
    await providers.add("new", AZURE)
    assert list(await providers.all()) == ["new"]
    assert "'old'" in caplog.text


async def test_a_change_reaches_the_feed_of_another_replica_within_a_second(
    providers: DynamicProviders, state: StateClient, secret: Secret
) -> None:
    seen: asyncio.Queue[list[str]] = asyncio.Queue()

    async def on_change(found: Mapping[str, LLMProvider]) -> None:
        await seen.put(sorted(found))

    other = StateClient(state.where)
    feed = ProviderFeed(other, DynamicProviders(other, secret), on_change)
    await feed.start()
    async with asyncio.timeout(1):
        assert await seen.get() == []
    await providers.add("azure", AZURE)
    async with asyncio.timeout(1):
        assert await seen.get() == ["azure"]
    await providers.remove("azure")
    async with asyncio.timeout(1):
        assert await seen.get() == []
    await feed.close()
    await other.close()


async def test_a_feed_whose_taker_fails_tries_again_at_the_next_poll(
    providers: DynamicProviders, state: StateClient, caplog: pytest.LogCaptureFixture
) -> None:
    calls: asyncio.Queue[list[str]] = asyncio.Queue()
    failures = iter([True])

    async def on_change(found: Mapping[str, LLMProvider]) -> None:
        if next(failures, False):
            raise RuntimeError("on purpose")
        await calls.put(sorted(found))

    await providers.add("azure", AZURE)
    feed = ProviderFeed(state, providers, on_change)
    await feed.start()
    async with asyncio.timeout(1):
        assert await calls.get() == ["azure"]
    assert "on purpose" in caplog.text
    await feed.close()
