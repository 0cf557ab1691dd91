"""`fallback` over HTTP, in both dialects."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.frames import frames
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import completion, stream
from tests.support.serving import AT_ONCE, Serving, serving, upstream

QUESTION = "What is 17 * 23?"
DOWN = f"{QUESTION} [[mock: fault=overloaded model=mock-swift]]"
CHAIN = {"chain": [{"model": "mock/mock-swift"}, {"model": "mock/mock-careful"}]}
RECIPES = {
    "providers": {"mock": AT_ONCE},
    "recipes": {
        "safe": {"strategy": "fallback", "models": ["mock/mock-swift", "mock/mock-careful"]},
        "cascade": {
            "strategy": "fallback",
            "options": {"chain": [{"model": "mock/mock-swift", "check": {"min_chars": 500}}, {"model": "mock/mock-careful"}]},
        },
    },
}
PATH = [("mock/mock-swift", "handed_over"), ("mock/mock-careful", "answered")]


def short(path: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(link["model"], link["outcome"]) for link in path]


async def run(service: Serving, **body: Any) -> httpx.Response:
    return await service.client.post("/v1/orchestrations", json={"strategy": "fallback", "input": QUESTION, **body})


async def chat(service: Serving, model: str, text: str = QUESTION, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return await service.client.post("/v1/chat/completions", json=body)


async def test_it_is_listed_with_its_schema(service: Serving) -> None:
    listed = (await service.client.get("/v1/strategies")).json()["data"]
    (entry,) = [entry for entry in listed if entry["id"] == "fallback"]
    assert set(entry["options"]["properties"]) == {"chain", "dynamic"}
    link = entry["options"]["$defs"]["LinkOptions"]["properties"]
    assert set(link) == {"model", "on", "retry", "when", "request", "response", "check"}


async def test_the_path_is_in_the_answer_of_both_dialects(service: Serving) -> None:
    answer = (await run(service, input=DOWN, options=CHAIN)).json()
    assert short(answer["path"]) == PATH
    assert answer["path"][0]["failure"] == "overloaded"
    assert answer["output"]["source_model"] == "mock/mock-careful"
    completion = (await chat(service, "quorum/fallback", DOWN, quorum={"options": CHAIN})).json()
    assert short(completion["quorum"]["path"]) == PATH
    streaming = await chat(service, "quorum/fallback", DOWN, quorum={"options": CHAIN}, stream=True)
    last = frames(streaming.text)[-2].json
    assert short(last["quorum"]["path"]) == PATH
    native = frames((await run(service, input=DOWN, options=CHAIN, stream=True)).text)
    assert short([frame.json["link"] for frame in native if frame.fields["event"] == "link.passed"]) == PATH


@pytest.mark.parametrize("recipe", ["safe", "cascade"])
async def test_a_recipe_is_a_chain(tmp_path: Path, valkey: EmbeddedValkey, recipe: str) -> None:
    async with serving(tmp_path, valkey.url, RECIPES) as service:
        for answer in (
            (await chat(service, recipe, DOWN)).json()["quorum"],
            (await service.client.post("/v1/orchestrations", json={"recipe": recipe, "input": DOWN})).json(),
        ):
            assert short(answer["path"]) == PATH


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"model": "nobody"}, "recipes.bad.options.chain.0.model: 'nobody' is not a model"),
        ({"model": "m", "when": "tokens >> 1"}, "options.chain.0.when: line 1, column 9"),
        ({"model": "m", "check": {"judge": {"model": "nobody"}}}, "options.chain.0.check.judge.model: 'nobody' is not a model"),
    ],
)
async def test_a_recipe_that_cannot_work_is_refused_with_its_line(
    tmp_path: Path, valkey: EmbeddedValkey, link: dict[str, Any], said: str
) -> None:
    good = upstream("http://127.0.0.1:9/v1")
    async with serving(tmp_path, valkey.url, good) as service:
        bad = {**good, "recipes": {"bad": {"strategy": "fallback", "options": {"chain": [link]}}}}
        service.configure(bad)
        answer = await service.client.post("/v1/admin/reload")
        assert answer.status_code == 400
        assert said in answer.text


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"chain": [{"model": "nobody"}]}, 400, "invalid_request"),
        ({"chain": [{"model": "mock/mock-swift", "when": "tokens >"}]}, 400, "invalid_request"),
        ({"chain": [{"model": "mock/mock-swift", "when": "false"}]}, 400, "invalid_request"),
        ({"chain": [{"model": "mock/mock-swift", "check": {"min_chars": 9_999}}]}, 502, "low_quality"),
        (
            {"chain": [{"model": m, "check": {"min_chars": 9_999}} for m in ("mock/mock-swift", "mock/mock-terse")]},
            502,
            "all_candidates_failed",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_fails_has_its_status(service: Serving, options: Any, status: int, code: str, stream: bool) -> None:
    answer = await chat(service, "quorum/fallback", quorum={"options": options}, stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_a_chain_that_is_skipped_whole_is_refused_before_a_native_stream_begins(service: Serving) -> None:
    answer = await run(service, options={"chain": [{"model": "mock/mock-swift", "when": "false"}]}, stream=True)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "options.chain")


class Broken:
    """The model `m` breaks off after it has begun; `m2` says `then`."""

    def __init__(self, then: Answer) -> None:
        self.then = then

    def __call__(self, received: Received) -> Answer:
        if received.json["model"] == "m2":
            return self.then
        begun = stream("half ")
        return sse(begun, stop_after=begun.index(b"\n\n", begun.index(b"half")) + 2)


async def test_after_visible_text_the_native_stream_starts_over(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    whole = Broken(sse(stream("whole")))
    async with Loopback(whole) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        found = frames((await run(service, options={"chain": [{"model": "m"}, {"model": "m2"}]}, stream=True)).text)
    shown = [f for f in found if f.fields["event"].startswith("output.")]
    assert [frame.fields["event"] for frame in shown][:2] == ["output.delta", "output.reset"]
    assert found[-1].json["result"]["output"]["text"] == "whole"


async def test_after_visible_text_the_openai_stream_ends_with_an_error_and_the_run_with_it(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    endless = Broken(sse(stream("whole"), hold_after=0))
    async with Loopback(endless) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        options = {"chain": [{"model": "m"}, {"model": "m2"}]}
        answer = await chat(service, "quorum/fallback", quorum={"options": options}, stream=True)
        found = frames(answer.text)
        assert "error" in found[-1].json
        assert "[DONE]" not in answer.text
        assert "whole" not in answer.text
        for received in provider.received[1:]:
            await received.closed.wait()
        client = openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.APIError, match="start over"):
            async for _ in await client.chat.completions.create(
                model="quorum/fallback",
                messages=[{"role": "user", "content": "Hi"}],
                stream=True,
                extra_body={"quorum": {"options": options}},
            ):
                pass
        await client.close()


async def test_before_visible_text_nobody_notices(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    def answering(received: Received) -> Any:
        down = as_json({"error": {"message": "down"}}, 503)
        return sse(stream("whole")) if received.json["model"] == "m2" else down

    async with Loopback(answering) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        answer = await chat(
            service, "quorum/fallback", quorum={"options": {"chain": [{"model": "m"}, {"model": "m2"}]}}, stream=True
        )
    text = "".join(frame.json["choices"][0]["delta"].get("content") or "" for frame in frames(answer.text)[:-1])
    assert text == "whole"
    assert "error" not in answer.text


async def test_retries_are_the_links_own(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    down = as_json({"error": {"message": "down"}}, 503)
    patient = {"retry": {"base_s": 0.001}, "breaker": {"enabled": False}, "pace": {"enabled": False}}
    async with (
        Loopback(down) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url, reliability=patient)) as service,
    ):
        answer = (
            await run(service, options={"chain": [{"model": "m", "retry": 0}, {"model": "m2", "retry": {"overloaded": 4}}]})
        ).json()
    assert [len(candidate["attempts"]) for candidate in answer["result"]["candidates"]] == [1, 5]
    assert len(provider.received) == 6


async def test_nothing_starts_after_the_deadline(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    def answering(received: Received) -> Any:
        late = as_json({"error": {"message": "down"}}, 503)
        late.delay_s = 0.4
        return late

    async with Loopback(answering) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        answer = await run(service, options={"chain": [{"model": "m"}, {"model": "m2"}]}, budget={"seconds": 0.2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert [received.json["model"] for received in provider.received] == ["m"]


async def test_an_open_breaker_is_left_for_last_in_a_dynamic_chain(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    def answering(received: Received) -> Any:
        return as_json(completion()) if received.json["model"] == "m2" else as_json({"error": {"message": "down"}}, 503)

    touchy = {"retry": {"enabled": False}, "breaker": {"min_calls": 1, "open_s": 100}, "pace": {"enabled": False}}
    async with (
        Loopback(answering) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url, reliability=touchy)) as service,
    ):
        options = {"chain": [{"model": "m"}, {"model": "m2"}], "dynamic": True}
        first = (await run(service, options=options)).json()
        assert [link["link"] for link in first["path"]] == [1, 2]
        while "open" not in [entry["state"] for entry in (await service.client.get("/v1/breakers")).json()["data"]]:
            await asyncio.sleep(0)
        then = (await run(service, options=options)).json()
    assert [link["link"] for link in then["path"]] == [2]
