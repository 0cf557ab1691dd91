"""Requests as chat completions bodies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter

from app.core.chat import ChatRequest, Generation, NamedTool, ResponseFormat, ToolDefinition
from app.core.messages import (
    DocumentPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    assistant,
    system,
    user,
)
from app.providers.openai.encoding import encode_request
from app.providers.vendors import OPENAI, VENDORS, Vendor

SDK_TYPES: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)


def body_of(request: ChatRequest, vendor: Vendor = OPENAI) -> dict[str, Any]:
    """The body as it goes over the wire, checked against the types of the official SDK."""
    body = orjson.loads(orjson.dumps(encode_request(request, vendor), default=dict))
    if vendor is OPENAI:
        exhaust(SDK_TYPES.validate_python(body))
    return body


def exhaust(value: Any) -> None:
    """Walk to the leaves: pydantic checks the items of an `Iterable` only when they are asked for."""
    if isinstance(value, Mapping):
        for item in value.values():
            exhaust(item)
    elif isinstance(value, list) or (isinstance(value, Iterator) and not isinstance(value, str)):
        for item in value:
            exhaust(item)


def messages_of(*messages: Message, vendor: Vendor = OPENAI) -> list[dict[str, Any]]:
    return body_of(ChatRequest("m", messages), vendor)["messages"]


def test_a_plain_request_says_nothing_that_was_not_asked() -> None:
    assert body_of(ChatRequest("gpt", (system("be brief"), user("hi"), assistant("hello"), user("bye")))) == {
        "model": "gpt",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "bye"},
        ],
    }


def test_every_setting_has_its_place() -> None:
    generation = Generation(
        temperature=0.0,
        top_p=0.5,
        max_tokens=100,
        stop=("a", "b"),
        seed=0,
        n=3,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        logprobs=True,
        top_logprobs=2,
        reasoning_effort="low",
    )
    body = body_of(ChatRequest("gpt", (user("hi"),), generation))
    del body["model"], body["messages"]
    assert body == {
        "temperature": 0.0,
        "top_p": 0.5,
        "max_completion_tokens": 100,
        "stop": ["a", "b"],
        "seed": 0,
        "n": 3,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.1,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
    }


def test_vendors_name_settings_their_own_way() -> None:
    request = ChatRequest("m", (user("hi"),), Generation(max_tokens=5, seed=1), incremental=True)
    mistral, together, openai = (body_of(request, VENDORS[name]) for name in ("mistral", "together", "openai"))
    assert (mistral["max_tokens"], mistral["random_seed"]) == (5, 1)
    assert "seed" not in mistral
    assert "stream_options" not in mistral
    assert (together["max_tokens"], together["seed"]) == (5, 1)
    assert openai["max_completion_tokens"] == 5
    assert "max_tokens" not in openai
    assert openai["stream_options"] == {"include_usage": True}


def test_only_an_incremental_request_streams() -> None:
    assert "stream" not in body_of(ChatRequest("m", (user("hi"),)))
    assert body_of(ChatRequest("m", (user("hi"),), incremental=True))["stream"] is True


def test_extra_members_go_in_as_they_are_and_win() -> None:
    body = body_of(ChatRequest("m", (user("hi"),), Generation(temperature=1.0), extra={"temperature": 0.5, "user": "u"}))
    assert (body["temperature"], body["user"]) == (0.5, "u")


def test_images_and_documents_go_beside_text() -> None:
    parts = (
        TextPart("look"),
        ImagePart(url="https://example.com/a.png", detail="low"),
        ImagePart(data="QUJD", media_type="image/jpeg"),
        DocumentPart(data="QUJD", name="a.pdf"),
        DocumentPart(data="QUJD", media_type="text/csv"),
    )
    assert messages_of(Message("user", parts, name="ann"))[0] == {
        "role": "user",
        "name": "ann",
        "content": [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,QUJD"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
            {"type": "file", "file": {"filename": "document.csv", "file_data": "data:text/csv;base64,QUJD"}},
        ],
    }


def test_several_texts_are_one_string() -> None:
    assert messages_of(Message("user", (TextPart("a"), TextPart("b"))))[0]["content"] == "ab"


def test_tool_calls_and_their_results_keep_together_and_images_of_results_follow_them() -> None:
    spoken = messages_of(
        Message("assistant", (ToolCallPart("c1", "draw", '{"a":1}'), ToolCallPart("c2", "now", ""))),
        Message("tool", (ToolResultPart("c1", (TextPart("done"), ImagePart(data="QUJD", media_type="image/png"))),)),
        Message("tool", (ToolResultPart("c2", (TextPart("12:00"),)),)),
        user("go on"),
    )
    calls = [(call["id"], call["type"], call["function"]) for call in spoken[0]["tool_calls"]]
    assert spoken[0]["content"] is None
    assert calls == [
        ("c1", "function", {"name": "draw", "arguments": '{"a":1}'}),
        ("c2", "function", {"name": "now", "arguments": "{}"}),
    ]
    assert spoken[1:3] == [
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "tool", "tool_call_id": "c2", "content": "12:00"},
    ]
    assert spoken[3]["role"] == "user"
    assert [part["type"] for part in spoken[3]["content"]] == ["text", "image_url"]
    assert "c1" in spoken[3]["content"][0]["text"]
    assert spoken[4] == {"role": "user", "content": "go on"}


def test_images_of_the_last_results_are_not_lost() -> None:
    result = ToolResultPart("c1", (ImagePart(url="https://example.com/a.png"),))
    spoken = messages_of(Message("assistant", (ToolCallPart("c1", "draw", "{}"),)), Message("tool", (result,)))
    assert [message["role"] for message in spoken] == ["assistant", "tool", "user"]


def test_several_results_in_one_message_are_a_message_each() -> None:
    results = (ToolResultPart("c1", (TextPart("a"),)), ToolResultPart("c2", (TextPart("b"),)))
    spoken = messages_of(Message("tool", results))
    assert [(message["tool_call_id"], message["content"]) for message in spoken] == [("c1", "a"), ("c2", "b")]


@pytest.mark.parametrize(
    ("vendor", "field"), [("openai", None), ("groq", None), ("deepseek", "reasoning_content"), ("openrouter", "reasoning")]
)
def test_reasoning_goes_back_only_to_vendors_that_want_it(vendor: str, field: str | None) -> None:
    turn = Message("assistant", (ReasoningPart("because"), TextPart("yes")))
    wanted = {"role": "assistant", "content": "yes"}
    assert messages_of(turn, vendor=VENDORS[vendor]) == [wanted | ({field: "because"} if field else {})]


def test_tools_go_with_their_schema_and_choice() -> None:
    tools = (
        ToolDefinition("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}}, strict=True),
        ToolDefinition("now"),
    )
    body = body_of(ChatRequest("m", (user("hi"),), Generation(parallel_tool_calls=False), tools, NamedTool("add")))
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "add",
                "description": "Adds.",
                "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert body["parallel_tool_calls"] is False


def test_a_tool_choice_without_tools_is_not_sent() -> None:
    body = body_of(ChatRequest("m", (user("hi"),), Generation(parallel_tool_calls=True), tool_choice="none"))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys()
    with_tool = ChatRequest("m", (user("hi"),), tools=(ToolDefinition("now"),), tool_choice="required")
    assert body_of(with_tool)["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (ResponseFormat("text"), None),
        (ResponseFormat("json_object"), {"type": "json_object"}),
        (
            ResponseFormat("json_schema", "joke", {"type": "object"}, strict=True, description="A joke."),
            {
                "type": "json_schema",
                "json_schema": {"name": "joke", "schema": {"type": "object"}, "strict": True, "description": "A joke."},
            },
        ),
        (
            ResponseFormat("json_schema", schema={"type": "object"}),
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        ),
    ],
)
def test_the_shape_of_the_answer_is_asked_for(wanted: ResponseFormat, sent: dict[str, Any] | None) -> None:
    body = body_of(ChatRequest("m", (user("hi"),), Generation(response_format=wanted)))
    assert body.get("response_format") == sent
