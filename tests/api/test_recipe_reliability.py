"""A recipe may have its own retries, repairs and hedges; its models keep theirs for everybody else."""

from __future__ import annotations

from pathlib import Path

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Loopback, as_json
from tests.support.serving import serving, upstream


async def test_a_recipe_without_retries(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    busy = as_json({"error": {"message": "busy"}}, 503, **{"retry-after-ms": "1"})
    async with Loopback(busy) as provider:
        config = upstream(provider.url, reliability={"breaker": {"enabled": False}})
        config["recipes"] = {
            "once": {"strategy": "direct", "models": ["m"], "reliability": {"retry": {"enabled": False}}},
            "as-ever": {"strategy": "direct", "models": ["m"]},
        }
        calls: dict[str, int] = {}
        async with serving(tmp_path, valkey.url, config) as service:
            for name in ("once", "as-ever", "once", "m"):
                before = len(provider.received)
                body = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
                assert (await service.client.post("/v1/chat/completions", json=body)).status_code == 503
                calls[name] = len(provider.received) - before
    assert calls == {"once": 1, "as-ever": 3, "m": 3}


async def test_what_belongs_to_models_is_no_setting_of_a_recipe(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with serving(tmp_path, valkey.url) as service:
        service.configure("recipes: {r: {models: [mock/mock-swift], reliability: {breaker: {enabled: false}}}}\n")
        refused = await service.client.post("/v1/admin/reload")
        assert refused.status_code == 400
        assert "breaker" in refused.text
