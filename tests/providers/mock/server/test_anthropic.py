"""The official Anthropic SDK against the mock server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import orjson
import pytest

ASK = [{"role": "user", "content": "What is 17*23?"}]
WEATHER = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
THINK = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as made:
        yield made


def call(model: str = "mock-careful", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 2000, "messages": ASK, **more}


def final(client: anthropic.Anthropic, **request: Any) -> Any:
    with client.messages.stream(**request) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("more", [{}, {"thinking": THINK}, {"system": "Be brief."}, {"max_tokens": 5}])
def test_a_message_and_its_stream_are_the_same(client: anthropic.Anthropic, more: dict[str, Any]):
    message = client.messages.create(**call(**more))
    streamed = final(client, **call(**more))
    assert [block.model_dump(exclude={"parsed_output"}) for block in streamed.content] == [
        block.model_dump() for block in message.content
    ]
    assert (streamed.stop_reason, streamed.usage) == (message.stop_reason, message.usage)
    assert message.stop_reason == ("max_tokens" if "max_tokens" in more else "end_turn")
    assert [block.type for block in message.content] == (["thinking", "text"] if "thinking" in more else ["text"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_tools_round_trip(client: anthropic.Anthropic, stream: bool):
    messages: list[Any] = [{"role": "user", "content": "What's the weather in Paris and London, both?"}]
    request = call("mock-scholar", messages=messages, tools=[WEATHER], thinking=THINK)
    asked = final(client, **request) if stream else client.messages.create(**request)
    calls = [block for block in asked.content if block.type == "tool_use"]
    assert asked.stop_reason == "tool_use"
    assert [block.input for block in calls] == [{"city": "Paris"}, {"city": "London"}]
    messages.append({"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in asked.content]})
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": f"{n} degrees"} for n, block in enumerate(calls)]
    messages.append({"role": "user", "content": results})
    answer = client.messages.create(**call("mock-swift", messages=messages, tools=[WEATHER]))
    assert answer.content[-1].text == "Got it: 0 degrees 1 degrees"


def test_a_tool_that_must_be_called_is_called(client: anthropic.Anthropic):
    answer = client.messages.create(**call(tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"}))
    assert answer.stop_reason == "tool_use"


def test_structured_output_documents_stops_and_refusals(client: anthropic.Anthropic):
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}}
    form = {"format": {"type": "json_schema", "schema": schema}}
    assert orjson.loads(client.messages.create(**call(extra_body={"output_config": form})).content[0].text) == {"answer": 391}
    source = {"type": "base64", "media_type": "application/pdf", "data": "eHh4"}
    content = [{"type": "document", "title": "a.pdf", "source": source}, {"type": "text", "text": "See"}]
    seen = client.messages.create(**call(messages=[{"role": "user", "content": content}]))
    assert "the document a.pdf (application/pdf, 3 bytes)" in seen.content[0].text
    stopped = client.messages.create(**call("mock-swift", stop_sequences=["detours"]))
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "detours")
    assert client.messages.create(**call(messages=[{"role": "user", "content": "Write ransomware"}])).stop_reason == "refusal"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("429", 429, "rate_limit_error"),
        ("529", 529, "overloaded_error"),
        ("401", 401, "authentication_error"),
        ("404", 404, "not_found_error"),
        ("500", 500, "api_error"),
        ("context_length", 400, "invalid_request_error"),
    ],
)
def test_faults_raise_the_sdks_own_errors(client: anthropic.Anthropic, stream: bool, fault: str, status: int, kind: str):
    with pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(**call(f"mock-swift?fault={fault}"), stream=stream)
    assert raised.value.status_code == status
    assert raised.value.body["error"]["type"] == kind
    assert raised.value.response.headers["x-should-retry"] == ("true" if status in (429, 500, 529) else "false")


def test_an_error_in_mid_stream_raises(client: anthropic.Anthropic):
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        final(client, **call("mock-swift?fault=midstream-error:2"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role 'system'"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "no block of type 'video'"),
    ],
)
def test_a_wrong_request_is_a_400_that_names_the_member(client: anthropic.Anthropic, change: dict[str, Any], said: str):
    with pytest.raises(anthropic.BadRequestError, match=said):
        client.messages.create(**call(**change))


def test_models_are_listed(client: anthropic.Anthropic):
    assert next(iter(client.models.list())).id == "mock-swift"
