"""The official OpenAI SDK against the mock server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import orjson
import pytest

ASK = [{"role": "user", "content": "What is 17*23?"}]
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
        yield made


def create(client: openai.OpenAI, model: str = "mock-careful", **more: Any) -> Any:
    return client.chat.completions.create(**{"model": model, "messages": ASK, **more})


def test_a_completion(client: openai.OpenAI):
    completion = create(client)
    assert completion.choices[0].message.content == "I checked this twice, and the answer is 391."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert create(client) == completion


def test_a_stream_says_the_same_and_its_usage_when_asked(client: openai.OpenAI):
    chunks = list(create(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    completion = create(client)
    assert text == completion.choices[0].message.content
    assert len(chunks) > 5
    assert chunks[-1].usage == completion.usage
    assert all(chunk.usage is None for chunk in create(client, stream=True))


def test_choices_are_streamed_under_their_indexes(client: openai.OpenAI):
    texts = ["", "", ""]
    for chunk in create(client, "mock-contrary", n=3, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in create(client, "mock-contrary", n=3).choices]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tools_round_trip(client: openai.OpenAI, stream: bool):
    messages: list[Any] = [{"role": "user", "content": "What's the weather in Paris and London, both?"}]
    if stream:
        with client.chat.completions.stream(model="mock-swift", messages=messages, tools=[WEATHER]) as events:
            asked = events.get_final_completion()
    else:
        asked = create(client, "mock-swift", messages=messages, tools=[WEATHER])
    calls = asked.choices[0].message.tool_calls
    assert asked.choices[0].finish_reason == "tool_calls"
    assert [orjson.loads(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "London"}]
    messages.append(asked.choices[0].message.model_dump(exclude_none=True, exclude={"parsed"}))
    messages += [{"role": "tool", "tool_call_id": call.id, "content": f"{n} degrees"} for n, call in enumerate(calls)]
    answer = create(client, "mock-swift", messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == "Got it: 0 degrees 1 degrees"


def test_structured_output_images_and_reasoning(client: openai.OpenAI):
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    assert orjson.loads(create(client, response_format=form).choices[0].message.content) == {"answer": 391}
    content = [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,eHh4"}}]
    assert "(image/png, 3 bytes)" in create(client, messages=[{"role": "user", "content": content}]).choices[0].message.content
    assert create(client).choices[0].message.reasoning_content


def test_a_refusal(client: openai.OpenAI):
    message = create(client, messages=[{"role": "user", "content": "Write ransomware"}]).choices[0].message
    assert (message.content, bool(message.refusal)) == (None, True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ("429", openai.RateLimitError, "rate_limit_exceeded"),
        ("quota_exhausted", openai.RateLimitError, "insufficient_quota"),
        ("401", openai.AuthenticationError, "invalid_api_key"),
        ("403", openai.PermissionDeniedError, None),
        ("404", openai.NotFoundError, "model_not_found"),
        ("context_length", openai.BadRequestError, "context_length_exceeded"),
        ("500", openai.InternalServerError, None),
        ("503", openai.InternalServerError, None),
        ("reset", openai.APIConnectionError, None),
    ],
)
def test_faults_raise_the_sdks_own_errors(
    client: openai.OpenAI, stream: bool, fault: str, error: type[Exception], code: str | None
):
    with pytest.raises(error) as raised:
        create(client, f"mock-swift?fault={fault}&retry_after=3", stream=stream)
    if code:
        assert raised.value.code == code
    if fault == "429":
        assert raised.value.response.headers["retry-after"] == "3"


def test_an_error_in_mid_stream_raises_after_what_came(client: openai.OpenAI):
    stream = create(client, stream=True, extra_headers={"X-Mock-Fault": "midstream-error:2"})
    got = []
    with pytest.raises(openai.APIError, match="Overloaded"):
        got.extend(stream)
    assert not isinstance(got, openai.Stream)


def test_a_truncated_stream_just_ends(client: openai.OpenAI):
    chunks = list(create(client, "mock-swift?fault=truncate:2", stream=True))
    assert len(chunks) == 3
    assert not any(chunk.choices[0].finish_reason for chunk in chunks)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"messages": []}, "Invalid 'messages': empty array"),
        ({"messages": [{"role": "owner", "content": "x"}]}, "Invalid value: 'owner'"),
        ({"max_tokens": "many"}, "'max_tokens' must be a whole number"),
        ({"response_format": {"type": "xml"}}, "Invalid value: 'xml'"),
        ({"stop": 3}, "'stop' must be a string"),
        ({"model": "mock-swift?speed=1"}, "no knob 'speed'"),
    ],
)
def test_a_wrong_request_is_a_400_that_names_the_member(client: openai.OpenAI, change: dict[str, Any], said: str):
    with pytest.raises(openai.BadRequestError, match=said):
        create(client, **change)


def test_models_are_listed(client: openai.OpenAI):
    assert [model.id for model in client.models.list()][:2] == ["mock-swift", "mock-careful"]
    with pytest.raises(openai.NotFoundError, match="there are mock-swift"):
        create(client, "gpt-9")
