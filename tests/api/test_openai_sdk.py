"""The official SDK as a client of ours, over the mock provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, Received, as_json, sse
from tests.support.openai_wire import chunk, completion
from tests.support.serving import AT_ONCE, serving, serving_in_thread, upstream

CONFIG = {
    "providers": {"mock": AT_ONCE},
    "models": {
        "swift": {"provider": "mock", "model": "mock-swift"},
        "careful": {"provider": "mock", "model": "mock-careful"},
        "org/with/slashes": {"provider": "mock", "model": "mock-terse"},
    },
    "recipes": {"panel": {"strategy": "simple", "models": ["swift", "careful"], "lead_model": "careful"}},
    "keys": [
        {"name": "runner", "key": "sk-runner-0123456789"},
        {"name": "reader", "key": "sk-reader-0123456789", "scopes": ["read"]},
    ],
}
ASK: list[Any] = [{"role": "user", "content": "What is 6 * 7?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Capital(BaseModel):
    capital: str
    population: int


class Counted:
    """The SDK's own HTTP client, with the requests it sends counted."""

    def __init__(self, url: str, key: str = "sk-runner-0123456789", **options: Any) -> None:
        self.sent: list[httpx.Request] = []
        self.http = httpx.Client(event_hooks={"request": [self.sent.append]})
        self.sdk = OpenAI(base_url=f"{url}/v1", api_key=key, http_client=self.http, **options)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, valkey: EmbeddedValkey) -> Iterator[str]:
    with serving_in_thread(tmp_path_factory.mktemp("sdk"), valkey.url, CONFIG) as url:
        yield url


@pytest.fixture
def counted(url: str) -> Iterator[Counted]:
    made = Counted(url)
    yield made
    made.http.close()


@pytest.fixture
def client(counted: Counted) -> OpenAI:
    return counted.sdk


def failing(fault: str, **knobs: Any) -> list[Any]:
    """A prompt at which the mock provider fails."""
    words = " ".join([f"fault={fault}", *(f"{name}={value}" for name, value in knobs.items())])
    return [{"role": "user", "content": f"What is 6 * 7? [[mock: {words}]]"}]


@pytest.mark.parametrize("model", ["swift", "mock/mock-terse", "panel", "quorum/simple", "quorum/direct", "quorum"])
def test_create(client: OpenAI, model: str) -> None:
    completion = client.chat.completions.create(model=model, messages=ASK)
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == model
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0
    assert completion.model_extra is not None
    assert completion.model_extra["quorum"]["status"] == "succeeded"


@pytest.mark.parametrize("model", ["swift", "panel"])
def test_stream_says_what_create_says(client: OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=ASK)
    with client.chat.completions.create(model=model, messages=ASK, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["quorum"]["strategy"] == ("simple" if model == "panel" else "direct")


def test_stream_with_usage_ends_with_it(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="panel", messages=ASK)
    with client.chat.completions.create(
        model="panel", messages=ASK, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = stream
    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks)


def test_the_sdks_own_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model="swift", messages=ASK) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        assert stream.get_final_completion().choices[0].message.content == text


def test_a_tool_is_called_and_its_result_goes_back(client: OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = client.chat.completions.create(model="swift", messages=asked, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    calls = first.choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.name for call in calls] == ["get_weather"]
    assert json.loads(calls[0].function.arguments) == {"city": "Paris"}
    back: list[Any] = [
        *asked,
        first.choices[0].message,
        {"role": "tool", "tool_call_id": calls[0].id, "content": "rain, 11 degrees"},
    ]
    second = client.chat.completions.create(model="swift", messages=back, tools=[WEATHER])
    assert "11 degrees" in (second.choices[0].message.content or "")


def test_a_streamed_tool_call_is_the_same(client: OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    with client.chat.completions.stream(model="swift", messages=asked, tools=[WEATHER]) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls is not None
    assert final.message.tool_calls[0].id
    assert json.loads(final.message.tool_calls[0].function.arguments) == {"city": "Paris"}


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_in_parallel(client: OpenAI, streamed: bool) -> None:
    asked: list[Any] = [{"role": "user", "content": "What is the weather in both Paris and Oslo?"}]
    if streamed:
        with client.chat.completions.stream(model="swift", messages=asked, tools=[WEATHER]) as stream:
            calls: Any = stream.get_final_completion().choices[0].message.tool_calls
    else:
        calls = client.chat.completions.create(model="swift", messages=asked, tools=[WEATHER]).choices[0].message.tool_calls
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "Oslo"]
    assert len({call.id for call in calls}) == 2


def test_a_tool_choice_is_kept_to(client: OpenAI) -> None:
    none = client.chat.completions.create(
        model="swift",
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice="none",
    )
    assert not none.choices[0].message.tool_calls
    named = client.chat.completions.create(
        model="swift", messages=ASK, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "get_weather"}}
    )
    assert named.choices[0].message.tool_calls


def test_json_schema(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="swift",
        messages=ASK,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": Capital.model_json_schema(), "strict": True},
        },
    )
    said = json.loads(completion.choices[0].message.content or "")
    assert Capital.model_validate(said, strict=True).model_dump() == said


def test_parse(client: OpenAI) -> None:
    completion = client.chat.completions.parse(model="swift", messages=ASK, response_format=Capital)
    assert isinstance(completion.choices[0].message.parsed, Capital)


def test_n(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="swift", messages=ASK, n=2)
    assert [choice.index for choice in completion.choices] == [0, 1]
    with client.chat.completions.create(model="swift", messages=ASK, n=2, stream=True) as stream:
        texts = ["", ""]
        finished: list[int] = []
        for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                finished += [choice.index] if choice.finish_reason else []
    assert texts == [choice.message.content for choice in completion.choices]
    assert sorted(finished) == [0, 1]


def test_an_image(client: OpenAI) -> None:
    content: list[Any] = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    completion = client.chat.completions.create(model="swift", messages=[{"role": "user", "content": content}])
    assert "image" in (completion.choices[0].message.content or "")


def test_a_refusal(client: OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "How do I build a pipe bomb?"}]
    message = client.chat.completions.create(model="careful", messages=asked).choices[0].message
    assert message.refusal
    assert message.content is None
    with client.chat.completions.create(model="careful", messages=asked, stream=True) as stream:
        assert "".join(chunk.choices[0].delta.refusal or "" for chunk in stream) == message.refusal


def test_seed_stop_and_the_other_parameters_are_taken(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="swift",
        messages=[{"role": "developer", "content": "Be brief."}, *ASK],
        temperature=0.1,
        top_p=0.9,
        max_completion_tokens=500,
        seed=7,
        user="somebody",
        metadata={"team": "red"},
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        store=False,
    )
    assert completion.choices[0].message.content


def test_the_quorum_member_reaches_the_strategy(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="panel", messages=ASK, extra_body={"quorum": {"options": {"min_responses": 3}}})
    assert caught.value.param == "options.min_responses"


FAULTS = [
    ("invalid_request", openai.BadRequestError, "invalid_request"),
    ("context_length", openai.BadRequestError, "context_length_exceeded"),
    ("rate_limited", openai.RateLimitError, "rate_limited"),
    ("quota_exhausted", openai.RateLimitError, "insufficient_quota"),
    ("overloaded", openai.InternalServerError, "overloaded"),
    ("server_error", openai.InternalServerError, "server_error"),
    ("auth", openai.InternalServerError, "auth"),
    ("timeout", openai.InternalServerError, "timeout"),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("fault", "kind", "code"), FAULTS)
def test_a_providers_failure_is_the_right_exception(
    client: OpenAI, fault: str, kind: type[openai.APIStatusError], code: str, streamed: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.with_options(max_retries=0).chat.completions.create(model="swift", messages=failing(fault), stream=streamed)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert "provider 'mock'" in caught.value.message
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]


def test_rate_limits_carry_the_providers_hint(client: OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.with_options(max_retries=0).chat.completions.create(
            model="swift", messages=failing("rate_limited", retry_after=7)
        )
    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("fault", ["quota_exhausted", "server_error", "timeout", "auth"])
def test_the_sdk_does_not_repeat_what_we_say_is_final(counted: Counted, fault: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        counted.sdk.chat.completions.create(model="swift", messages=failing(fault))
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(counted.sent) == 1


def test_the_sdk_repeats_what_we_say_may_be_repeated(counted: Counted) -> None:
    with pytest.raises(openai.InternalServerError):
        counted.sdk.with_options(max_retries=1).chat.completions.create(model="swift", messages=failing("overloaded"))
    assert len(counted.sent) == 2


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'swfit'; did you mean 'swift'") as caught:
        client.chat.completions.create(model="swfit", messages=ASK)
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("key", "kind"), [("sk-wrong", openai.AuthenticationError), ("sk-reader-0123456789", openai.PermissionDeniedError)]
)
def test_keys(url: str, key: str, kind: type[openai.APIStatusError]) -> None:
    counted = Counted(url, key)
    with counted.http, pytest.raises(kind):
        counted.sdk.chat.completions.create(model="swift", messages=ASK)
    assert len(counted.sent) == 1


@pytest.mark.parametrize("broken", ["truncate:2", "midstream-error:2", "connection:2"])
def test_a_stream_that_breaks_raises(client: OpenAI, broken: str) -> None:
    seen: list[Any] = []

    def read() -> None:
        with client.chat.completions.create(model="swift", messages=failing(broken), stream=True) as stream:
            seen.extend(stream)

    with pytest.raises(openai.APIError, match="provider 'mock'") as caught:
        read()
    assert seen
    assert caught.value.code in ("incomplete", "overloaded", "connection")


def test_models(client: OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {"swift", "careful", "org/with/slashes", "panel", "quorum/simple"} <= models.keys()
    for name in ("swift", "org/with/slashes", "panel", "quorum/simple", "mock/mock-swift"):
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError, match="there is no model 'swoft'"):
        client.models.retrieve("swoft")


async def test_the_async_sdk(url: str) -> None:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-runner-0123456789", max_retries=0) as client:
        whole = await client.chat.completions.create(model="panel", messages=ASK)
        stream = await client.chat.completions.create(model="panel", messages=ASK, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == whole.choices[0].message.content
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="swift", messages=failing("rate_limited"))
        broken = await client.chat.completions.create(model="swift", messages=failing("truncate:1"), stream=True)
        with pytest.raises(openai.APIError, match="ended before its end"):
            _ = [chunk async for chunk in broken]
        assert len((await client.models.list()).data) > 3


async def test_log_probabilities_come_through(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    probabilities = {"content": [{"token": "Hello", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}

    def answer(request: Received) -> Answer:
        assert request.json["logprobs"] is True
        whole = completion("Hello")
        if not request.json.get("stream"):
            whole["choices"][0]["logprobs"] = probabilities
            return as_json(whole)
        piece = json.loads(chunk({"content": "Hello"})[len(b"data: ") :])
        piece["choices"][0]["logprobs"] = probabilities
        return sse(b"data: " + json.dumps(piece).encode() + b"\n\n" + chunk({}, "stop") + b"data: [DONE]\n\n")

    async with Loopback(answer) as provider:
        config = upstream(provider.url)
        config["models"]["m"]["capabilities"] = {"logprobs": True}
        async with (
            serving(tmp_path, valkey.url, config) as service,
            AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client,
        ):
            whole = await client.chat.completions.create(model="m", messages=ASK, logprobs=True)
            assert whole.choices[0].logprobs is not None
            assert whole.choices[0].logprobs.model_dump(exclude_unset=True) == probabilities
            stream = await client.chat.completions.create(model="m", messages=ASK, logprobs=True, stream=True)
            found = [piece.choices[0].logprobs async for piece in stream if piece.choices[0].logprobs]
            assert [one.model_dump(exclude_unset=True) for one in found] == [probabilities]


def test_what_a_model_cannot_do_is_refused_by_name(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="swift", messages=ASK, logprobs=True)
    assert caught.value.param == "logprobs"
    assert caught.value.code == "capability_missing"
