"""JSON that is asked for is JSON that comes, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.serving import serving, upstream

FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "required": ["n"]}}}
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "n?"}], "response_format": FORM}


async def test_a_wrong_answer_is_asked_again_with_the_fault_told(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    def answer(request: Received) -> Answer:
        told = request.json["messages"][-1]["content"]
        return as_json(completion('{"n": 1}' if "cannot be used" in told else "it is one"))

    async with Loopback(answer) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        done = await service.client.post("/v1/chat/completions", json=ASK)
        metrics = (await service.client.get("/metrics")).text
    assert done.json()["choices"][0]["message"]["content"] == '{"n": 1}'
    assert done.json()["usage"]["total_tokens"] == 2 * completion("")["usage"]["total_tokens"]
    assert [request.json["messages"][1:] for request in provider.received] == [
        [],
        [
            {"role": "assistant", "content": "it is one"},
            {"role": "user", "content": provider.received[1].json["messages"][2]["content"]},
        ],
    ]
    assert 'quorum_repairs_total{model="m",outcome="repaired",provider="up"} 1.0' in metrics


@pytest.mark.parametrize("enabled", [True, False])
async def test_an_answer_that_stays_wrong_fails_unless_the_check_is_off(
    tmp_path: Path, valkey: EmbeddedValkey, enabled: bool
) -> None:
    model = f"m-{enabled}"
    config = upstream("", reliability={"repair": {"enabled": enabled}})
    config["models"] = {model: {"provider": "up", "model": model}}
    async with Loopback(lambda _: as_json(completion("it is one"))) as provider:
        config["providers"]["up"]["base_url"] = provider.url
        async with serving(tmp_path, valkey.url, config) as service:
            done = await service.client.post("/v1/chat/completions", json={**ASK, "model": model})
            metrics = (await service.client.get("/metrics")).text
    if not enabled:
        assert done.json()["choices"][0]["message"]["content"] == "it is one"
        return
    assert done.status_code == 502
    assert done.json()["error"]["code"] == "invalid_output"
    assert "it is not JSON" in done.json()["error"]["message"]
    assert done.headers["x-should-retry"] == "false"
    used = 2 * completion("")["usage"]["completion_tokens"]
    assert f'quorum_tokens_total{{kind="output",model="{model}"}} {used}.0' in metrics  # both calls were paid


async def test_a_schema_that_is_none_is_refused_before_anything_is_called(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    broken = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "nothing"}}}
    whole = as_json(completion("{}"))
    async with Loopback(whole) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        done = await service.client.post("/v1/chat/completions", json={**ASK, "response_format": broken})
    assert done.status_code == 400
    assert done.json()["error"]["param"] == "response_format.json_schema.schema"
    assert provider.received == []
