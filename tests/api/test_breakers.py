"""`GET /v1/breakers` and closing one by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from app.observability import model_counts
from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Loopback, as_json
from tests.support.openai_wire import completion
from tests.support.serving import Serving, serving, until, upstream

BUSY = as_json({"error": {"message": "busy"}}, 503)
ASK = {"input": "Hi", "strategy": "direct", "models": ["m"]}
WITHOUT_RETRY = {"retry": {"enabled": False}}


async def breakers(service: Serving) -> list[dict[str, Any]]:
    answer = await service.client.get("/v1/breakers")
    assert answer.status_code == 200
    assert answer.json()["object"] == "list"
    return answer.json()["data"]


async def test_there_is_one_for_each_model_and_it_is_closed(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with serving(tmp_path, valkey.url, upstream("http://127.0.0.1:9", reliability={})) as service:
        found = await breakers(service)
        assert [(one["provider"], one["model"], one["state"], one["retry_after_s"]) for one in found] == [
            ("up", "m", "closed", None),
            ("up", "m2", "closed", None),
        ]
        assert all(one["id"].startswith(f"up:{one['model']}:") for one in found)
        assert "upstream-key" not in str(found)


async def test_it_opens_is_shown_and_counted_and_is_closed_by_hand(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    answers = [*[BUSY] * 20, as_json(completion())]
    async with (
        Loopback(answers) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url, reliability=WITHOUT_RETRY)) as service,
    ):
        for _ in range(20):
            assert (await service.client.post("/v1/orchestrations", json=ASK)).status_code == 503
        first = service.app.state.services.breakers.all()[0]
        await until(lambda: first.circuit.state == "open")
        one = (await breakers(service))[0]
        assert (one["state"], one["trips"], one["shared"]) == ("open", 1, True)
        assert 8 <= one["retry_after_s"] <= 11
        refused = await service.client.post("/v1/orchestrations", json=ASK)
        assert refused.json()["provider"]["failure"] == "breaker_open"
        text = (await service.client.get("/metrics")).text
        assert 'quorum_breaker_state{model="m",provider="up"} 2.0' in text
        assert 'quorum_refused_calls_total{model="m",provider="up",reason="breaker_open"}' in text
        closed = await service.client.post(f"/v1/breakers/{one['id']}/reset")
        assert (closed.status_code, closed.json()["state"]) == (200, "closed")
        assert (await service.client.post("/v1/orchestrations", json=ASK)).status_code == 200


async def test_an_unknown_one_is_404_and_only_an_admin_may_close_one(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    keys = [{"name": "r", "key": "a key that may read", "scopes": ["read"]}]
    config = {**upstream("http://127.0.0.1:9", reliability={}), "keys": keys}
    async with serving(tmp_path, valkey.url, config, admin_key="the key of an admin") as service:

        async def reset(breaker_id: str, key: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {key}"}
            return await service.client.post(f"/v1/breakers/{breaker_id}/reset", headers=headers)

        unknown = await reset("up:none", "the key of an admin")
        assert unknown.status_code == 404
        assert "GET /v1/breakers" in unknown.json()["detail"]
        assert (await reset("up:m", "a key that may read")).status_code == 403
        assert (await service.client.get("/v1/breakers")).status_code == 401


async def test_a_model_whose_name_has_slashes_can_be_named(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    config = {"providers": upstream("http://127.0.0.1:9", reliability={})["providers"]}
    config["models"] = {"m": {"provider": "up", "model": "meta/llama-3:70b"}}
    async with serving(tmp_path, valkey.url, config) as service:
        (one,) = await breakers(service)
        assert (await service.client.post(f"/v1/breakers/{one['id']}/reset")).status_code == 200


async def test_a_reload_changes_settings_and_keeps_what_is_open(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with (
        Loopback(BUSY) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url, reliability=WITHOUT_RETRY)) as service,
    ):
        for _ in range(20):
            await service.client.post("/v1/orchestrations", json=ASK)
        all_of_them = service.app.state.services.breakers.all
        await until(lambda: all_of_them()[0].circuit.state == "open")
        config = upstream(provider.url, reliability=WITHOUT_RETRY)
        service.configure({**config, "reliability": {"breaker": {"probes": 5}}})
        assert (await service.client.post("/v1/admin/reload")).status_code == 200
        assert (await breakers(service))[0]["state"] == "open"
        assert all_of_them()[0].rules.probes == 5


async def test_naming_models_without_end_makes_neither_breakers_nor_series_without_end(
    tmp_path: Path, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_counts, "_LABELS", model_counts.ModelLabels())
    async with (
        Loopback(lambda _: as_json(completion())) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url, reliability={})) as service,
    ):
        for number in range(130):
            asked = await service.client.post("/v1/orchestrations", json={**ASK, "models": [f"up/flood-{number}"]})
            assert asked.status_code == 200
        text = (await service.client.get("/metrics")).text
        shown = {line.split('model="')[1].split('"')[0] for line in text.splitlines() if 'model="up/flood-' in line}
        assert len(shown) <= 100
        assert 'quorum_attempts_total{model="other",outcome="ok",provider="up"}' in text
        assert 'quorum_tokens_total{kind="input",model="other"}' in text
        models = [one["model"] for one in await breakers(service)]
        assert len(models) == 102
        assert {"m", "m2", "flood-129"} <= set(models)
        assert "flood-0" not in models
        for breaker in service.app.state.services.breakers.all():
            breaker.heard_ms -= 600_000
        assert [one["model"] for one in await breakers(service)] == ["m", "m2"]
        await service.client.post("/v1/orchestrations", json={**ASK, "models": ["up/flood-0"]})
        assert [one["model"] for one in await breakers(service)] == ["flood-0", "m", "m2"]
