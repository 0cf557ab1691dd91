from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from anthropic.types import message_create_params
from pydantic import ConfigDict, TypeAdapter, with_config

from app.core.chat import ChatRequest, Generation, NamedTool, ResponseFormat, ToolDefinition
from app.core.errors import CapabilityMissing
from app.core.messages import (
    DocumentPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    system,
    user,
)
from app.providers.anthropic.request import encode

MODEL = "claude-sonnet-4-5"
WEATHER = ToolDefinition("weather", "The weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
PNG = "iVBORw0KGgoAAAA="


def body_of(*messages: Message, model: str = MODEL, **more: Any) -> dict[str, Any]:
    generation = Generation(**{name: more.pop(name) for name in list(more) if name in Generation.__dataclass_fields__})
    return encode(ChatRequest(model, messages, generation, **more))


def call(name: str, arguments: str = "{}") -> ToolCallPart:
    return ToolCallPart(name, "weather", arguments)


def result(name: str, text: str = "fine", **more: Any) -> Message:
    return Message("tool", (ToolResultPart(name, (TextPart(text),), **more),))


def test_the_smallest_request_has_a_bound_and_nothing_that_was_not_asked_for() -> None:
    assert body_of(user("Hi")) == {
        "model": MODEL,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }


def test_all_settings_have_their_names() -> None:
    body = body_of(user("Hi"), max_tokens=9, temperature=0.0, top_p=0.5, stop=("a", "b"), incremental=True)
    assert {name: body[name] for name in ("max_tokens", "temperature", "top_p", "stop_sequences", "stream")} == {
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "stop_sequences": ["a", "b"],
        "stream": True,
    }


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        ("auto", None, None),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("none", False, {"type": "none"}),
        (NamedTool("weather"), True, {"type": "tool", "name": "weather"}),
    ],
)
def test_tools_and_their_choice(choice: Any, parallel: bool | None, expected: dict[str, Any] | None) -> None:
    body = body_of(user("Hi"), tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=parallel)
    assert body["tools"] == [
        {"name": "weather", "description": WEATHER.description, "input_schema": WEATHER.parameters},
    ]
    assert body.get("tool_choice") == expected


def test_a_strict_tool_has_a_closed_schema() -> None:
    (tool,) = body_of(user("Hi"), tools=(ToolDefinition("f", None, WEATHER.parameters, strict=True),))["tools"]
    assert tool == {
        "name": "f",
        "strict": True,
        "input_schema": {**WEATHER.parameters, "additionalProperties": False},
    }


def test_tools_of_an_old_conversation_are_declared_but_not_to_be_called() -> None:
    body = body_of(user("Hi"), Message("assistant", (call("a"), call("b"))), result("a"), result("b"))
    assert [tool["name"] for tool in body["tools"]] == ["weather"]
    assert body["tool_choice"] == {"type": "none"}


def test_a_schema_is_asked_for_in_the_subset_that_the_vendor_enforces() -> None:
    schema = {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 0, "description": "Years"},
            "minimum": {"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "null"}]},
            "list": {"type": "array", "items": {"type": "object", "properties": {}}, "minItems": 3},
        },
        "$defs": {"Inner": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}},
    }
    body = body_of(user("Hi"), response_format=ResponseFormat("json_schema", schema=schema))
    assert body["output_config"] == {
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "age": {"type": "integer", "description": 'Years\n\n{"minimum":0}'},
                    "minimum": {"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "null"}]},
                    "list": {
                        "type": "array",
                        "items": {"type": "object", "properties": {}, "additionalProperties": False},
                        "description": '{"minItems":3}',
                    },
                },
                "$defs": {
                    "Inner": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"a": {"type": "string", "description": '{"maxLength":3}'}},
                    }
                },
            },
        }
    }


def test_a_json_object_without_schema_is_asked_for_in_words() -> None:
    body = body_of(system("Be terse"), user("Hi"), response_format=ResponseFormat("json_object"))
    assert "output_config" not in body
    assert body["system"][0]["text"] == "Be terse"
    assert "JSON object" in body["system"][1]["text"]


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("claude-sonnet-4-5", "low", {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ("claude-3-7-sonnet-20250219", "high", {"thinking": {"type": "enabled", "budget_tokens": 8000}}),
        ("claude-sonnet-4-20250514", "minimal", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ("claude-sonnet-4-5", "none", {}),
        ("claude-sonnet-5", "none", {"thinking": {"type": "disabled"}}),
        (
            "claude-opus-4-6",
            "xhigh",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        ),
        (
            "anthropic/claude-opus-4.7",
            "xhigh",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}},
        ),
        (
            "claude-mythos-preview",
            "minimal",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}},
        ),
    ],
)
def test_effort_is_asked_for_as_the_model_knows_it(model: str, effort: Any, expected: dict[str, Any]) -> None:
    body = body_of(user("Hi"), model=model, reasoning_effort=effort, max_tokens=10_000)
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == expected


def test_reasoning_without_a_bound_gets_a_wider_one() -> None:
    body = body_of(user("Hi"), reasoning_effort="medium")
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (16_384, 8_192)


def test_effort_and_schema_share_the_output_configuration() -> None:
    wanted = ResponseFormat("json_schema", schema={"type": "string"})
    body = body_of(user("Hi"), model="claude-opus-5", reasoning_effort="low", response_format=wanted)
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "string"}}}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"temperature": 1.5}, "temperature"),
        ({"reasoning_effort": "low", "temperature": 0.2}, "temperature"),
        ({"reasoning_effort": "low", "top_p": 0.5}, "top_p"),
        ({"reasoning_effort": "low", "max_tokens": 1024}, "max_tokens"),
        ({"reasoning_effort": "low", "tools": (WEATHER,), "tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_the_vendor_cannot_do_is_refused_by_name(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(CapabilityMissing) as caught:
        body_of(user("Hi"), **asked)
    assert caught.value.param == param


def test_extra_goes_into_the_body_as_it_is() -> None:
    body = body_of(user("Hi"), extra={"top_k": 5, "max_tokens": 7})
    assert (body["top_k"], body["max_tokens"]) == (5, 7)


def test_the_sdk_would_send_the_same_shapes() -> None:
    strict = with_config(ConfigDict(extra="forbid"))(message_create_params.MessageCreateParamsStreaming)
    body = body_of(
        system("Be terse"),
        Message("user", (TextPart("Hi"), ImagePart(data=PNG), DocumentPart(data="JVBERi0="))),
        Message("assistant", (ReasoningPart("hm", "seal"), TextPart("ok"), call("a", '{"city": "Rome"}'))),
        result("a", is_error=True),
        tools=(WEATHER,),
        incremental=True,
        stop=("x",),
        response_format=ResponseFormat("json_schema", schema={"type": "object", "properties": {}}),
        reasoning_effort="medium",
        parallel_tool_calls=False,
    )
    adapter = TypeAdapter(strict)  # kept: the lists are validated against it as they are read
    exhaust(adapter.validate_python(body))


def exhaust(value: Any) -> None:
    """Read everything there is to read in `value`."""
    if isinstance(value, dict):
        for member in value.values():
            exhaust(member)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            exhaust(item)
