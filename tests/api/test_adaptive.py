"""adaptive over HTTP: what is estimated is what runs, and any OpenAI client may ask for it."""

from __future__ import annotations

from tests.support.serving import Serving

PANEL = ["mock/mock-swift", "mock/mock-careful", "mock/mock-terse"]
SUM = {
    "input": "What is 17 * 23?",
    "strategy": "adaptive",
    "options": {"weights": {"quality": 1}, "explore": 0, "pin": PANEL},
}


async def test_the_estimate_tells_what_would_be_chosen_and_the_run_does_that(service: Serving) -> None:
    plan = (await service.client.post("/v1/orchestrations/estimate", json=SUM)).json()["plan"]
    assert plan["task"]["category"] == "math"
    assert plan["alternatives"][0]["score"] >= plan["alternatives"][-1]["score"]
    result = (await service.client.post("/v1/orchestrations", json=SUM)).json()
    assert result["strategy"] == "adaptive"
    chosen = ("strategy", "models", "options", "task", "diversity", "set_aside")
    assert {key: result["plan"][key] for key in chosen} == {key: plan[key] for key in chosen}
    assert {one["model"] for one in result["candidates"]} <= set(plan["models"])


async def test_it_is_a_model_for_clients_of_openai(service: Serving) -> None:
    body = {"model": "quorum/adaptive", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    answer = await service.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.json()["quorum"]["strategy"] == "adaptive"
    assert answer.json()["choices"][0]["message"]["content"]


async def test_a_wrong_option_is_named(service: Serving) -> None:
    answer = await service.client.post("/v1/orchestrations", json={**SUM, "options": {"pin": ["nobody"]}})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "options.pin"
