from __future__ import annotations

import asyncio
import time
from typing import Any, get_args

import pytest

from app.core.chat import ChatRequest, Generation, ResponseFormat, ToolDefinition
from app.core.errors import ConfigError, FailureClass, ProviderError
from app.core.messages import DocumentPart, ImagePart, Message, TextPart, user
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted, TextDelta, fold
from app.providers.mock import DEFAULT_PERSONAS, MockProvider, cast_of, mock_profiles
from tests.providers.mock.asking import ask, events, provider, text


def streamed(prompt: str, model: str = "mock-scholar", **more: Any) -> ChatRequest:
    return ChatRequest(model, (user(prompt),), incremental=True, **more)


@pytest.mark.parametrize("model", list(DEFAULT_PERSONAS))
@pytest.mark.parametrize("prompt", ["Explain tides", "What is 3+4?", "How do I write ransomware?", "Use a tool, please"])
async def test_a_stream_folds_to_the_response_that_a_unary_call_gives(model: str, prompt: str):
    tools = (ToolDefinition("look", parameters={"type": "object", "properties": {"what": {"type": "string"}}}),)
    request = streamed(prompt, model, generation=Generation(n=2), tools=tools)
    whole = await ask(prompt, model, generation=Generation(n=2), tools=tools)
    got = await events(provider(), request)
    assert isinstance(got[0], ResponseStarted)
    assert fold(got) == got[-1].response == whole


async def test_the_text_comes_in_as_many_chunks_as_asked_for():
    got = await events(provider(), streamed("[[mock: chunks=200]] Explain tides"))
    assert sum(isinstance(event, TextDelta) for event in got) == 200
    assert fold(got) == got[-1].response


@pytest.mark.parametrize("failure", get_args(FailureClass))
async def test_every_failure_class_can_be_provoked(failure: str):
    with pytest.raises(ProviderError) as raised:
        await ask(f"Hello [[mock: fault={failure} retry_after=2]]")
    error = raised.value
    assert (error.failure, error.provider, error.model, error.retry_after) == (failure, "mock", "mock-careful", 2)


@pytest.mark.parametrize(("failure", "status"), [("rate_limited", 429), ("overloaded", 503), ("auth", 401), ("timeout", None)])
async def test_a_failure_has_the_status_a_vendor_gives_it(failure: str, status: int | None):
    with pytest.raises(ProviderError) as raised:
        await ask(f"Hello [[mock: fault={failure}]]")
    assert raised.value.status == status


async def test_a_fault_may_come_after_some_chunks():
    got: list[ModelEvent] = []

    async def read() -> None:
        async for event in provider().stream(streamed("Explain tides [[mock: fault=incomplete after=3]]", "mock-swift")):
            got.append(event)

    with pytest.raises(ProviderError, match="ended before its end"):
        await read()
    assert [type(event) for event in got] == [ResponseStarted, TextDelta, TextDelta, TextDelta]


async def test_a_hang_lasts_until_the_caller_gives_up():
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask("Hello [[mock: fault=hang]]"), 0.05)


async def test_a_fault_for_so_many_times_ends():
    mock, prompt = provider(), "What is 2+2? [[mock: fault=overloaded times=2]]"
    for _ in range(2):
        with pytest.raises(ProviderError):
            await ask(prompt, mock=mock)
    assert "4" in await text(prompt, mock=mock)


async def test_a_fault_in_the_question_does_not_strike_the_lead_who_reads_it_again():
    quoted = 'What is 2+2? [[mock: fault=500]]\n\n<answer label="1">4</answer>\n\nWrite the one answer to this.'
    assert "4" in await text(quoted)
    with pytest.raises(ProviderError):
        await ask(quoted.replace("mock: ", "mock: stage=lead "))


async def test_a_refusal_and_a_garbled_answer_are_answers():
    assert (await ask("Hello [[mock: fault=refusal]]")).choices[0].finish_reason == "content_filter"
    whole, half = await text("Explain tides"), await text("Explain tides [[mock: fault=garble]]")
    assert half == whole[: len(whole) // 2]


async def test_a_script_is_followed_call_by_call():
    mock = provider(script=[{"fault": "overloaded", "retry_after": 1}, {}, {"fault": "auth"}])
    outcomes = []
    for _ in range(4):
        try:
            await ask("Hello", mock=mock)
        except ProviderError as error:
            outcomes.append(error.failure)
        else:
            outcomes.append("ok")
    assert outcomes == ["overloaded", "ok", "auth", "ok"]


async def test_a_personas_own_script_is_its_own():
    mock = provider(personas={"flaky": {"like": "mock-swift", "script": [{"fault": "500"}]}})
    await ask("Hello", "mock-swift", mock=mock)
    with pytest.raises(ProviderError):
        await ask("Hello", "flaky", mock=mock)
    await ask("Hello", "flaky", mock=mock)


async def test_an_unknown_model_is_named_with_those_that_exist():
    with pytest.raises(ProviderError, match="no model 'gpt-9'; there are mock-swift") as raised:
        await ask("Hello", "gpt-9")
    assert (raised.value.failure, raised.value.status) == ("not_found", 404)


@pytest.mark.parametrize("part", [ImagePart(url="https://example.com/a.png"), DocumentPart(data="eA==")])
async def test_a_persona_without_eyes_takes_no_images_and_no_documents(part: ImagePart | DocumentPart):
    request = ChatRequest("mock-terse", (Message("user", (TextPart("See"), part)),))
    with pytest.raises(ProviderError, match="takes no") as raised:
        await events(provider(), request)
    assert raised.value.failure == "invalid_request"


async def test_a_prompt_longer_than_the_window_is_refused():
    mock = provider(personas={"narrow": {"context_window": 10}})
    with pytest.raises(ProviderError) as raised:
        await ask("word " * 20, "narrow", mock=mock)
    assert raised.value.failure == "context_length"


async def test_the_time_to_the_first_token_is_the_personas():
    mock = MockProvider("mock", cast_of("mock", {"personas": {"slow": {"latency_ms": 60, "chunk_ms": 0}}}))
    loop = asyncio.get_running_loop()
    started = loop.time()
    await anext(mock.stream(streamed("Hello", "slow")))
    assert loop.time() - started >= 0.055


async def test_a_check_names_the_personas():
    availability = await provider().check()
    assert availability.available
    assert availability.models == tuple(DEFAULT_PERSONAS)


def test_personas_differ_in_family_price_and_speed():
    profiles = mock_profiles("m")
    assert len(profiles) >= 5
    assert len({profile.family for profile in profiles}) == len(profiles)
    assert len({profile.price for profile in profiles}) == len(profiles)
    assert len({persona.latency_ms for persona in DEFAULT_PERSONAS.values()}) == len(profiles)
    assert all(20 <= persona.latency_ms <= 120 for persona in DEFAULT_PERSONAS.values())


def test_a_configured_persona_starts_from_another():
    cast = cast_of("m", {"defaults": False, "personas": {"mine": {"like": "mock-careful", "style": {"fact": "{value}!"}}}})
    assert list(cast.personas) == ["mine"]
    mine, careful = cast.personas["mine"], DEFAULT_PERSONAS["mock-careful"]
    assert (mine.style.fact, mine.style.prose, mine.input_per_mtok) == ("{value}!", careful.style.prose, 3.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"personas": {"a": {"accuracy": 2}}}, "personas.a.accuracy: .*less than or equal to 1"),
        ({"personas": {"a": {"speed": 2}}}, "personas.a.speed: Extra inputs"),
        ({"personas": {"a": {"like": "b"}}}, "personas.a.like: no persona 'b'"),
        ({"script": [{"fault": "meteor"}]}, "no fault 'meteor'"),
        ({"defaults": False}, "personas: none"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=f"provider 'm': options: {said}"):
        cast_of("m", options)


async def test_usage_is_the_documented_estimate():
    usage = (await ask("x" * 40, "mock-terse", generation=Generation(max_tokens=5))).usage
    assert (usage.input_tokens, usage.output_tokens) == (4 + 10, 5)
    assert isinstance((await events(provider(), ChatRequest("mock-terse", (user("x"),))))[0], ResponseFinished)


HOSTILE = {
    "blank lines": "\n" * 200_000,
    "open tags": "<answer>" * 25_000,
    "sealed tags": "<answer>a</answer>" + "<a-123456 " * 20_000,
    "heading": "answer A" + " " * 200_000 + "x",
    "nested json": '[{"a":' * 30_000,
    "digits": "1" * 200_000,
    "signs": "What is 1" + "-" * 200_000,
    "brackets": "What is " + "(" * 200_000 + "1",
    "power": "What is 9**9**9**9?",
    "huge product": "What is " + "*".join(["999999**20"] * 12) + "?",
    "division": "What is 1/0?",
    "directives": "[[mock:" * 30_000,
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_prompt_is_read_in_bounded_time(what: str):
    form = ResponseFormat("json_object")
    began = time.process_time()
    assert (await ask(HOSTILE[what], "mock-scholar", generation=Generation(response_format=form))).choices[0].text
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "schema", [{"type": 5}, {"properties": []}, {"$schema": "urn:unknown"}, {"type": "object", "required": "all"}]
)
async def test_a_schema_that_is_none_is_an_invalid_request(schema: dict[str, Any]):
    form = ResponseFormat("json_schema", schema=schema)
    with pytest.raises(ProviderError, match="no valid JSON schema") as raised:
        await ask("Hello", generation=Generation(response_format=form))
    assert raised.value.failure == "invalid_request"
