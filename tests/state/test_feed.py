from __future__ import annotations

import asyncio

from app.state.client import StateClient
from app.state.dynamic_providers import DynamicProviders
from app.state.feed import Feed
from app.state.keys import PROVIDERS
from app.state.secrets import Secret
from tests.state.test_dynamic_providers import AZURE


class Loads:
    def __init__(self) -> None:
        self.done: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self) -> None:
        await self.done.put(None)

    async def next(self, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            await self.done.get()


async def subscribed(state: StateClient) -> None:
    async with asyncio.timeout(2):
        while b"quorum:{providers}:changed" not in await state.commands.pubsub_channels():
            pass


async def test_a_change_is_pushed_without_waiting_for_the_poll(state: StateClient, secret: Secret) -> None:
    loads = Loads()
    feed = Feed(state, PROVIDERS, loads, poll_s=60)
    await feed.start()
    await loads.next(within_s=1)
    await subscribed(state)
    await DynamicProviders(state, secret).add("azure", AZURE)
    await loads.next(within_s=1)
    await feed.close()


async def test_a_lost_subscription_is_taken_up_again(state: StateClient, secret: Secret) -> None:
    loads = Loads()
    feed = Feed(state, PROVIDERS, loads)
    await feed.start()
    await loads.next(within_s=1)
    await state.commands.client_kill_filter(_type="pubsub")
    await DynamicProviders(state, secret).add("azure", AZURE)
    await loads.next(within_s=1)
    await subscribed(state)
    await feed.close()


async def test_nothing_is_loaded_again_while_nothing_changes(state: StateClient) -> None:
    loads = Loads()
    feed = Feed(state, PROVIDERS, loads, poll_s=0.01)
    await feed.start()
    await loads.next(within_s=1)
    before = (await state.commands.info("stats"))["total_commands_processed"]
    async with asyncio.timeout(5):
        while (await state.commands.info("stats"))["total_commands_processed"] < before + 50:
            pass
    assert loads.done.empty()
    await feed.close()


async def test_it_starts_without_redis_and_says_that_nothing_is_loaded() -> None:
    state = StateClient("redis://127.0.0.1:1")
    loads = Loads()
    feed = Feed(state, PROVIDERS, loads)
    await feed.start()
    assert not feed.loaded
    await feed.close()
    await state.close()
