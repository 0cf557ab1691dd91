"""Hosted runs over two real server processes: a reader that is cut off, an owner that dies or hangs, a store that freezes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from app.state.embedded import EmbeddedValkey
from tests.support.clients import http_client
from tests.support.loopback import Loopback
from tests.support.replicas import Reading, result_of, slowly
from tests.support.service import Service, service
from tests.support.serving import until, upstream
from tests.support.valkey import running_valkey, server_pid

pytestmark = pytest.mark.timeout(180)

LOST_WITHIN_S = 20


@pytest.fixture
def store() -> Iterator[EmbeddedValkey]:
    """A store of its own, which a test may stop."""
    with running_valkey() as server:
        yield server


@asynccontextmanager
async def two(directory: Path, store: EmbeddedValkey, provider: Loopback) -> AsyncIterator[list[Service]]:
    """Two processes that serve, ready."""
    with ExitStack() as stack:
        found: list[Service] = []
        for name in ("a", "b"):
            place = directory / name
            place.mkdir()
            (place / "quorum.yaml").write_text(yaml.safe_dump(upstream(provider.url)))
            settings = {"redis_url": store.url, "config": place / "quorum.yaml", "log_level": "error", "secret": "x" * 32}
            found.append(stack.enter_context(service(place, factory="app.main:create_app", ready=False, **settings)))
        for one in found:
            await asyncio.to_thread(one.wait_ready)
        yield found


async def test_a_client_that_is_cut_off_goes_on_at_the_other_process(tmp_path: Path, store: EmbeddedValkey) -> None:
    async with (
        Loopback(slowly(300, 0.005)) as provider,
        two(tmp_path, store, provider) as services,
        http_client(services[0].url, timeout_s=30) as a,
        http_client(services[1].url, timeout_s=30) as b,
    ):
        reading, whole, drops = Reading(), Reading(), 0
        await reading.begin(a, most=7)
        while not reading.ended:
            drops += 1
            await reading.go_on((a, b)[drops % 2], most=60)
        whole.run_id = reading.run_id
        await whole.go_on(b)
        assert reading.text == whole.text
        assert reading.answer == "".join(f"w{n} " for n in range(300))
        assert len(provider.received) == 1
        print(f"resume over 2 processes: {len(reading.frames)} events, {drops} drops, 0 differences")


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
async def test_who_listens_elsewhere_hears_that_the_owner_is_lost(
    tmp_path: Path, store: EmbeddedValkey, fate: signal.Signals
) -> None:
    async with (
        Loopback(slowly(20_000, 0.01)) as provider,
        two(tmp_path, store, provider) as (owner, other),
        http_client(owner.url, timeout_s=40) as a,
        http_client(other.url, timeout_s=40) as b,
    ):
        reading, listener = Reading(), Reading()
        asking = asyncio.create_task(reading.begin(a))
        await until(lambda: reading.text.count("output.delta") > 10)
        listener.run_id = reading.run_id
        listening = asyncio.create_task(listener.go_on(b))
        await until(lambda: listener.text.count("output.delta") > 10)
        owner.signal(fate)
        began = time.monotonic()
        await asyncio.wait_for(listening, LOST_WITHIN_S)
        print(f"owner {fate.name}: its listener on another process heard it after {time.monotonic() - began:.1f} s")
        last = listener.frames[-1]
        assert last.fields["event"] == "run.failed"
        assert last.json["error"]["code"] == "owner_lost"
        path = f"/v1/orchestrations/{reading.run_id}"
        assert (await b.get(path)).json()["error"]["code"] == "owner_lost"
        if fate == signal.SIGSTOP:  # it comes back, and may not write any more
            owner.signal(signal.SIGCONT)
            await asyncio.wait_for(asking, 10)
            assert reading.frames[-1].fields == last.fields
            await until(lambda: provider.open == 0)
            again = Reading()
            again.run_id = reading.run_id
            await again.go_on(b)
            assert again.text == listener.text
        else:
            with pytest.raises(httpx.HTTPError):
                await asking


async def test_who_has_read_what_never_came_into_the_log_hears_that_the_run_starts_over(
    tmp_path: Path, store: EmbeddedValkey
) -> None:
    """The process dies while the log is away: its reader is ahead of the log, and of what the next process begins with."""
    async with (
        Loopback(slowly(1_000, 0.01)) as provider,
        two(tmp_path, store, provider) as (owner, other),
        http_client(owner.url) as a,
        http_client(other.url) as b,
    ):
        reading, logged = Reading(), Reading()
        asking = asyncio.create_task(reading.begin(a, **{"Idempotency-Key": "key"}))
        await until(lambda: reading.text.count("output.delta") > 20)
        pid = server_pid(store.data_dir)
        assert pid
        os.kill(pid, signal.SIGSTOP)
        before = reading.last
        await until(lambda: int(reading.last) > int(before) + 40)
        owner.signal(signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            await asking
        os.kill(pid, signal.SIGCONT)
        ahead = reading.last
        await until(lambda: len(provider.received) == 2, within_s=25)
        await reading.go_on(b)
        logged.run_id = reading.run_id
        await logged.go_on(b)
    events = [frame.fields["event"] for frame in reading.frames]
    restarted = events.index("run.restarted")
    assert reading.frames[restarted - 1].fields["id"] == ahead
    assert ahead not in [frame.fields["id"] for frame in logged.frames]
    said = [frame.json["text"] for frame in reading.frames[restarted:] if frame.fields["event"] == "output.delta"]
    assert "".join(said) == "".join(f"w{number} " for number in range(1_000))


async def test_a_frozen_store_does_not_disturb_the_reader_of_a_run(tmp_path: Path, store: EmbeddedValkey) -> None:
    frozen_s = 2.0
    async with (
        Loopback(slowly(400, 0.01)) as provider,
        two(tmp_path, store, provider) as (here, there),
        http_client(here.url, timeout_s=30) as a,
        http_client(there.url, timeout_s=30) as b,
    ):
        reading, late = Reading(), Reading()
        asking = asyncio.create_task(reading.begin(a))
        await until(lambda: reading.text.count("output.delta") > 10)
        pid = server_pid(store.data_dir)
        assert pid
        os.kill(pid, signal.SIGSTOP)
        frozen, longest, seen, changed = time.monotonic(), 0.0, len(reading.text), time.monotonic()
        while time.monotonic() < frozen + frozen_s:
            await asyncio.sleep(0.005)
            if len(reading.text) != seen:
                seen, changed = len(reading.text), time.monotonic()
            longest = max(longest, time.monotonic() - changed)
        os.kill(pid, signal.SIGCONT)
        await asyncio.wait_for(asking, 20)
        print(f"store frozen for {frozen_s:g} s: longest pause of the live reader {longest * 1000:.0f} ms")
        assert longest < 0.3
        assert result_of(reading.frames)["status"] == "succeeded"
        late.run_id = reading.run_id
        await late.go_on(b)
        assert late.text == reading.text
