"""Recorded sequences of failures and success, through the whole service: they end as they did when they were recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Loopback
from tests.support.serving import serving
from tests.support.valkey import running_valkey
from tests.wire.exchanges import DIRECTORY, Exchange, answer, scenarios, skip

pytestmark = skip

SEQUENCES = {
    "zai_429_429_200stream": "openai_compatible",
    "anthropic_200_503text_200": "anthropic",
    "openrouter_429_200_200_tools": "openai_compatible",
}


def groups(steps: tuple[Exchange, ...]) -> list[list[Exchange]]:
    """The steps by the request that they answer: failures, and the success after them."""
    found: list[list[Exchange]] = [[]]
    for step in steps:
        found[-1].append(step)
        if step.status == 200:
            found.append([])
    return [group for group in found if group]


def sequences() -> dict[str, tuple[Exchange, ...]]:
    return {one.id: one.steps for one in scenarios() if one.id in SEQUENCES} if DIRECTORY.is_dir() else {}


@pytest.mark.parametrize("name", SEQUENCES)
async def test_a_recorded_sequence_ends_as_it_did(tmp_path: Path, name: str) -> None:
    steps = sequences()[name]
    async with Loopback([answer(step) for step in steps]) as provider:
        config: dict[str, Any] = {
            "providers": {
                "up": {
                    "kind": SEQUENCES[name],
                    "base_url": provider.url,
                    "api_key": "k",
                    "reliability": {"retry": {"base_s": 0.01}, "pace": {"default_s": 0.01}},
                }
            },
            "models": {"m": {"provider": "up", "model": steps[-1].model}},
        }
        with running_valkey() as valkey:
            await replay(tmp_path, valkey, config, steps, provider)


async def replay(
    tmp_path: Path, valkey: EmbeddedValkey, config: dict[str, Any], steps: tuple[Exchange, ...], provider: Loopback
) -> None:
    async with serving(tmp_path, valkey.url, config) as service:
        for group in groups(steps):
            streamed = group[-1].sse is not None
            body = {"input": "What is 2 + 2?", "strategy": "direct", "models": ["m"], "stream": streamed}
            got = await service.client.post("/v1/orchestrations", json=body)
            assert got.status_code == 200, got.text
            if streamed:
                assert "event: run.finished" in got.text
                continue
            (candidate,) = got.json()["candidates"]
            wanted = [step.status for step in group]
            assert [(a["error"] or {}).get("status") or 200 for a in candidate["attempts"]] == wanted
            assert candidate["status"] == "succeeded"
            assert candidate["text"] or candidate["tool_calls"]
        assert len(provider.received) == len(steps)


async def test_a_recorded_failover_ends_as_it_did(tmp_path: Path) -> None:
    """Anthropic answers until its rate limit asks for 65 s; the same model elsewhere then answers."""
    (steps,) = [one.steps for one in scenarios() if one.id == "failover_anthropic_429_to_bedrock"]
    first = [step for step in steps if step.vendor == "anthropic"]
    (then,) = [step for step in steps if step.vendor != "anthropic"]
    async with (
        Loopback([answer(step) for step in first]) as one,
        Loopback(answer(then)) as other,
    ):
        config: dict[str, Any] = {
            "providers": {
                name: {"kind": "anthropic", "base_url": provider.url, "api_key": "k"}
                for name, provider in (("one", one), ("other", other))
            },
            "models": {name: {"provider": name, "model": first[0].model} for name in ("one", "other")},
            "recipes": {"safe": {"strategy": "fallback", "models": ["one", "other"]}},
        }
        with running_valkey() as valkey:
            async with serving(tmp_path, valkey.url, config) as service:
                paths: list[list[tuple[str, str, str | None]]] = []
                for step in steps[: len(first)]:
                    got = (await service.client.post("/v1/orchestrations", json={"recipe": "safe", "input": "Hi"})).json()
                    recorded = then if step.status == 429 else step
                    assert got["output"]["text"] == recorded.json["content"][0]["text"]
                    paths.append([(link["model"], link["outcome"], link["failure"]) for link in got["path"]])
    assert paths[:-1] == [[("one", "answered", None)]] * (len(first) - 1)
    assert paths[-1] == [("one", "handed_over", "rate_limited"), ("other", "answered", None)]
    assert (len(one.received), len(other.received)) == (len(first), 1)
