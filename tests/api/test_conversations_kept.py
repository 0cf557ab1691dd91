"""What is kept of a conversation: how much, for whom, how it is read, and that it is gone once it was deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.conversing import KEYS, ask, bearer, echo, talking, texts, told
from tests.support.loopback import Loopback
from tests.support.serving import Serving, serving, until, upstream

pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
async def talk(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[tuple[Serving, Loopback]]:
    async with talking(tmp_path, valkey.url) as both:
        yield both


async def test_what_is_deleted_is_gone_and_that_is_recorded(talk: tuple[Serving, Loopback]) -> None:
    service, provider = talk
    await ask(service, "One")
    assert (await service.client.delete("/v1/conversations/c")).status_code == 204
    assert (await service.client.get("/v1/conversations/c")).status_code == 404
    assert (await service.client.delete("/v1/conversations/c")).status_code == 404
    await ask(service, "Two")
    assert texts(provider.received[-1]) == ["Two"]
    found = (await service.client.get("/v1/audit", params={"action": "conversation.delete"})).json()["data"]
    assert {record["subject"]["id"] for record in found} == {"c"}


async def test_a_run_whose_conversation_is_deleted_meanwhile_has_failed(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    go = asyncio.Event()
    waits = [False, True]
    async with talking(tmp_path, valkey.url, lambda one: replace(echo(one), wait_for=go if waits.pop(0) else None)) as (
        service,
        provider,
    ):
        await ask(service, "One")
        second = asyncio.create_task(ask(service, "Two"))
        await until(lambda: len(provider.received) == 2)
        await service.client.delete("/v1/conversations/c")
        go.set()
        assert ((await second).status_code, (await second).json()["error"]["code"]) == (409, "conversation_changed")
        assert (await service.client.get("/v1/conversations/c")).status_code == 404


async def test_only_the_newest_turns_are_kept_and_that_is_said(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with talking(tmp_path, valkey.url, conversations={"max_turns": 2}) as (service, provider):
        warnings = [(await ask(service, f"No. {number}")).json()["warnings"] for number in range(1, 5)]
        assert warnings == [[], [], *[["the oldest 1 turns of the conversation are not kept any more"]] * 2]
        page = await told(service)
        assert (page["turns"], page["dropped"], [turn["number"] for turn in page["data"]]) == (4, 2, [3, 4])
        assert texts(provider.received[-1]) == ["No. 2", "3 messages", "No. 3", "5 messages", "No. 4"]


async def test_what_is_longer_than_the_bound_is_refused_or_drops_what_was_before(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    async with talking(tmp_path, valkey.url, conversations={"max_bytes": 10_000}) as (service, _):
        assert (await ask(service, "x" * 10_000)).status_code == 400
        for _ in range(3):
            assert (await ask(service, "x" * 4_000)).status_code == 200
        page = await told(service)
        assert (page["turns"], page["dropped"]) == (3, 1)
        assert page["bytes"] <= 10_000


async def test_what_is_too_long_for_a_model_is_left_out_of_its_prompt_and_kept(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(echo) as provider:
        config = upstream(provider.url)
        config["models"]["m"]["context_window"] = 2_000
        async with serving(tmp_path, valkey.url, config) as service:
            for _ in range(3):
                answer = await ask(service, "word " * 700)
            assert "left out are 3 earlier messages" in answer.json()["warnings"][0]
            assert len(provider.received[-1].json["messages"]) == 2
            assert len((await told(service))["data"]) == 3


async def test_more_messages_than_may_be_sent_are_left_out_by_whole_turns(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with talking(tmp_path, valkey.url, limits={"max_messages": 4}) as (service, provider):
        for number in range(3):
            answer = await ask(service, f"No. {number}")
        assert answer.json()["warnings"] == ["the oldest 1 turns of the conversation are left out: 4 messages may be sent"]
        assert texts(provider.received[-1]) == ["No. 1", "3 messages", "No. 2"]


async def test_it_is_read_page_by_page(talk: tuple[Serving, Loopback]) -> None:
    service, _ = talk
    for number in range(3):
        await ask(service, f"No. {number}")
    first = await told(service, limit=2)
    rest = await told(service, limit=2, cursor=first["next_cursor"])
    assert [turn["number"] for page in (first, rest) for turn in page["data"]] == [1, 2, 3]
    assert rest["next_cursor"] is None
    assert (await service.client.get("/v1/conversations/c", params={"cursor": "x"})).status_code == 400


@pytest.mark.parametrize("name", ["a:b", "", "-a", "a" * 129, "a b", "{a}"])
async def test_what_is_no_id_is_refused(talk: tuple[Serving, Loopback], name: str) -> None:
    service, _ = talk
    assert (await ask(service, "Hi", name)).json()["error"]["param"] == "conversation_id"
    assert (await service.client.get(f"/v1/conversations/{name or '%20'}")).status_code == 404


async def test_without_the_store_only_plain_requests_are_answered(tmp_path: Path) -> None:
    async with talking(tmp_path, "redis://127.0.0.1:1", keys=KEYS) as (service, _):
        service.client.headers.update(bearer("ann"))
        refused = await ask(service, "Hi")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "state_unavailable")
        assert (await ask(service, "Hi", None)).status_code == 200
