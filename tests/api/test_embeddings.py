"""Embeddings in OpenAI's dialect, over the official SDK, from providers of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json
from tests.support.serving import Serving, serving, upstream

TEXTS = ["A quorum decides.", "A quorum has decided.", "Penguins eat krill."]


def two_each(request: Received) -> Answer:
    """Vectors in the reverse order of their texts, as `index` says."""
    texts = request.json["input"]
    rows = [{"object": "embedding", "index": at, "embedding": [float(at), 0.5]} for at in reversed(range(len(texts)))]
    return as_json({"object": "list", "data": rows, "model": "vendor-model", "usage": {"prompt_tokens": 9, "total_tokens": 9}})


def sdk(service: Serving, **more: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{service.url}/v1", api_key=more.pop("api_key", "none"), max_retries=0, **more)


async def test_mock_models_embed_and_like_texts_are_near(service: Serving) -> None:
    async with sdk(service) as client:
        found = await client.embeddings.create(model="mock/mock-swift", input=TEXTS)  # the SDK asks for base64
        plain = await client.embeddings.create(model="mock/mock-swift", input=TEXTS, encoding_format="float")
    one, two, three = (row.embedding for row in found.data)

    def near(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert near(one, two) > near(one, three)
    assert found.usage.prompt_tokens > 0
    for packed, row in zip((one, two, three), plain.data, strict=True):
        assert packed == pytest.approx(row.embedding, abs=1e-6)


async def test_openai_dialect_upstream(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(two_each) as provider:
        config = upstream(provider.url)
        config["models"]["m"]["price"] = {"input": 2.0, "output": 0.0}
        async with serving(tmp_path, valkey.url, config) as service, sdk(service) as client:
            found = await client.embeddings.create(model="m", input=TEXTS, dimensions=2, encoding_format="float", user="u")
    assert [row.embedding for row in found.data] == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
    assert [row.index for row in found.data] == [0, 1, 2]
    assert found.model == "m"
    assert found.model_extra
    assert found.model_extra["quorum"]["cost_usd"] == pytest.approx(9 * 2e-6)
    assert provider.received[0].path == "/embeddings"
    assert provider.received[0].json == {"model": "m", "input": TEXTS, "encoding_format": "float", "dimensions": 2}


async def test_gemini_upstream(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(as_json({"embeddings": [{"values": [0.25]}, {"values": [0.5]}]})) as provider:
        config = {
            "providers": {"g": {"kind": "gemini", "base_url": provider.url, "api_key": "k-gemini-0123456789"}},
            "models": {"e": {"provider": "g", "model": "gemini-embedding-001"}},
        }
        async with serving(tmp_path, valkey.url, config) as service:
            answer = await service.client.post("/v1/embeddings", json={"model": "e", "input": TEXTS[:2], "dimensions": 1})
    assert [row["embedding"] for row in answer.json()["data"]] == [[0.25], [0.5]]
    assert provider.received[0].path == "/models/gemini-embedding-001:batchEmbedContents"
    assert provider.received[0].json["requests"][0] == {
        "model": "models/gemini-embedding-001",
        "content": {"parts": [{"text": TEXTS[0]}]},
        "outputDimensionality": 1,
    }


async def test_a_failure_is_called_again_and_then_told(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    busy = as_json({"error": {"message": "busy"}}, 503, **{"retry-after-ms": "1"})
    short = Answer(body=json.dumps({"data": []}).encode())
    async with (
        Loopback([busy, short]) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url, reliability={})) as service,
    ):
        answer = await service.client.post("/v1/embeddings", json={"model": "m", "input": "Hi"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "invalid_output"), answer.text
    assert "1 texts were sent, and 0 vectors came" in answer.json()["detail"]
    assert len(provider.received) == 2


async def test_limits_of_the_caller_hold(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    async with Loopback(two_each) as provider:
        config = {**upstream(provider.url), "keys": [{"name": "k", "key": "sk-key-0123456789abcd", "tenant": "t"}]}
        config["tenants"] = {"t": {"budget": {"tokens_per_day": 200}}}
        async with serving(tmp_path, valkey.url, config) as service:
            bearer = {"authorization": "Bearer sk-key-0123456789abcd"}
            body = {"model": "m", "input": "Hi"}
            statuses = [(await service.client.post("/v1/embeddings", json=body, headers=bearer)).status_code for _ in range(14)]
            large = {"model": "m", "input": "x" * 500}
            refused = await service.client.post("/v1/embeddings", json=large, headers=bearer)
    assert statuses == [200] * 14
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "budget_exceeded"


async def test_the_same_key_gets_the_same_answer(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(two_each) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        answers = [
            await service.client.post("/v1/embeddings", json={"model": "m", "input": "Hi"}, headers={"Idempotency-Key": "e"})
            for _ in range(2)
        ]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert len(provider.received) == 1


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"model": "mock/mock-swift"}, "input", "is missing"),
        ({"model": "mock/mock-swift", "input": []}, "input", "at least 1"),
        ({"model": "mock/mock-swift", "input": [[1, 2]]}, "input.0", "valid string"),
        ({"model": "nobody", "input": "Hi"}, "model", "no model 'nobody'"),
        ({"model": "claude/x", "input": "Hi"}, "model", "makes no embeddings"),
        ({"model": "mock/mock-swift", "input": "Hi", "dimensions": 0}, "dimensions", "greater than or equal to 1"),
    ],
)
async def test_bad_input_is_named(tmp_path: Path, valkey: EmbeddedValkey, body: dict[str, Any], param: str, said: str) -> None:
    config = {"providers": {"mock": {"kind": "mock"}, "claude": {"kind": "anthropic", "api_key": "k-claude-0123456789"}}}
    async with serving(tmp_path, valkey.url, config) as service:
        answer = await service.client.post("/v1/embeddings", json=body)
    assert answer.status_code in (400, 404)
    assert str(answer.json()["error"]["param"]).startswith(param)
    assert said in answer.json()["detail"]


async def test_the_sdk_reads_a_refusal(service: Serving) -> None:
    async with sdk(service) as client:
        with pytest.raises(BadRequestError):
            await client.embeddings.create(model="mock/mock-swift", input=[])
