"""Commands that are asked for at the same time."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ConnectionError, ResponseError

from app.state.client import StateClient
from app.state.together import Together


def echo(number: int, pipe: Any) -> None:
    """As many commands as the last digit of the number; the last of those that end in 3 is wrong."""
    for _ in range(number % 10):
        pipe.echo(str(number))
    if number % 10 == 3:
        pipe.execute_command("NOSUCH", number)


async def test_each_gets_its_own_replies_though_some_fail(state: StateClient) -> None:
    together = Together(state)
    found = await asyncio.gather(*(together.ask(partial(echo, number)) for number in range(200)))
    for number, replies in enumerate(found):
        if number % 10 == 3:
            assert isinstance(replies.pop(), ResponseError)
        assert replies == [str(number).encode()] * (number % 10)


async def test_one_who_leaves_disturbs_nobody(state: StateClient) -> None:
    together = Together(state)
    asked = [asyncio.ensure_future(together.ask(partial(echo, number))) for number in (1, 11, 21, 31)]
    await asyncio.sleep(0)
    asked[1].cancel()
    assert await asyncio.gather(asked[0], asked[2], asked[3]) == [[b"1"], [b"21"], [b"31"]]


async def test_all_hear_of_a_lost_connection_and_the_next_one_asks_anew() -> None:
    away = StateClient("unix:///nowhere/redis.sock")
    together = Together(away)
    for _ in range(2):
        found = await asyncio.gather(*(together.ask(partial(echo, 1)) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, ConnectionError) for error in found)
    with pytest.raises(ConnectionError):
        await together.ask(partial(echo, 1))
    await away.close()
