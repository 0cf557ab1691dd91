from __future__ import annotations

import pytest

from app.core.chat import ChatRequest, Generation, NamedTool, ResponseFormat, ToolChoice, ToolDefinition
from app.core.messages import (
    DocumentPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    assistant,
    system,
    user,
)
from app.providers.gemini.requests import SKIP_SIGNATURE, encode_request

OLD, NEW = "gemini-2.5-flash", "gemini-3-flash-preview"


def contents(*messages: Message, model: str = OLD) -> list:
    return encode_request(ChatRequest(model, messages))["contents"]


def config(generation: Generation, model: str = OLD) -> dict:
    return encode_request(ChatRequest(model, (user("hi"),), generation)).get("generationConfig", {})


def result(call_id: str, *content: TextPart | ImagePart, **more) -> Message:
    return Message("tool", (ToolResultPart(call_id, content, **more),))


def calls(*parts: Part) -> Message:
    return Message("assistant", parts)


def test_system_messages_become_one_instruction_wherever_they_stand() -> None:
    body = encode_request(ChatRequest(OLD, (system("Be brief."), user("hi"), system("In French."))))

    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "In French."}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]


def test_a_system_message_alone_is_asked_as_the_users() -> None:
    body = encode_request(ChatRequest(OLD, (system("Say hello."),)))

    assert body == {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}


def test_neighbours_of_one_role_are_one_turn_and_empty_ones_none() -> None:
    turns = contents(user("a"), user("b"), assistant(""), assistant("c"), assistant("d"), user("e"))

    assert turns == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}, {"text": "d"}]},
        {"role": "user", "parts": [{"text": "e"}]},
    ]


@pytest.mark.parametrize(
    ("part", "encoded"),
    [
        (ImagePart(data="AAAA", media_type="image/png"), {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
        (
            ImagePart(url="https://example.org/cat.png?size=2"),
            {"fileData": {"fileUri": "https://example.org/cat.png?size=2", "mimeType": "image/png"}},
        ),
        (
            ImagePart(url="https://example.org/cat"),
            {"fileData": {"fileUri": "https://example.org/cat", "mimeType": "image/jpeg"}},
        ),
        (ImagePart(url="data:image/webp;base64,AAAA"), {"inlineData": {"mimeType": "image/webp", "data": "AAAA"}}),
        (DocumentPart(data="AAAA"), {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}}),
        (
            DocumentPart(url="gs://bucket/a.txt", media_type="text/plain"),
            {"fileData": {"fileUri": "gs://bucket/a.txt", "mimeType": "text/plain"}},
        ),
    ],
)
def test_images_and_documents_go_inline_or_by_address(part: Part, encoded: dict) -> None:
    assert contents(Message("user", (TextPart("look"), part)))[0]["parts"] == [{"text": "look"}, encoded]


def test_parallel_results_go_back_in_one_turn_by_the_functions_name() -> None:
    turns = contents(
        user("weather?"),
        calls(ToolCallPart("1", "weather", '{"city":"Rome"}', "seal"), ToolCallPart("2", "time", "")),
        result("1", TextPart("sunny")),
        result("2", TextPart('{"hour": 12}')),
    )

    assert turns[1]["parts"] == [
        {"functionCall": {"id": "1", "name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "seal"},
        {"functionCall": {"id": "2", "name": "time", "args": {}}},
    ]
    assert turns[2] == {
        "role": "user",
        "parts": [
            {"functionResponse": {"id": "1", "name": "weather", "response": {"output": "sunny"}}},
            {"functionResponse": {"id": "2", "name": "time", "response": {"hour": 12}}},
        ],
    }


def test_a_result_keeps_its_own_name_and_an_unknown_call_gets_its_id_as_name() -> None:
    turns = contents(result("a", TextPart("x"), name="named"), result("b", TextPart("y")))

    assert [part["functionResponse"]["name"] for part in turns[0]["parts"]] == ["named", "b"]


@pytest.mark.parametrize(
    ("part", "response"),
    [
        (ToolResultPart("1", (TextPart("[1, 2]"),)), {"output": "[1, 2]"}),
        (ToolResultPart("1", (TextPart("{broken"),)), {"output": "{broken"}),
        (ToolResultPart("1", ()), {"output": ""}),
        (ToolResultPart("1", (TextPart('{"a": 1}'),), is_error=True), {"error": '{"a": 1}'}),
    ],
)
def test_a_result_is_always_an_object(part: ToolResultPart, response: dict) -> None:
    assert contents(Message("tool", (part,)))[0]["parts"][0]["functionResponse"]["response"] == response


def test_images_of_a_result_follow_it() -> None:
    parts = contents(result("1", TextPart("chart"), ImagePart(data="AAAA", media_type="image/png"), name="draw"))[0]["parts"]

    assert [next(iter(part)) for part in parts] == ["functionResponse", "inlineData"]


@pytest.mark.parametrize("arguments", ["{not json", "[1]", "3"])
def test_arguments_that_are_no_object_are_wrapped_into_one(arguments: str) -> None:
    parts = contents(calls(ToolCallPart("1", "f", arguments)))[0]["parts"]

    assert parts[0]["functionCall"]["args"] == {"arguments": arguments}


def test_the_signature_of_a_text_goes_back_onto_it_and_the_thoughts_stay_home() -> None:
    turn = calls(ReasoningPart("I think so", "seal"), ReasoningPart("no more"), TextPart("yes"))

    assert contents(user("?"), turn)[1]["parts"] == [{"text": "yes", "thoughtSignature": "seal"}]


def test_a_signature_without_a_text_goes_back_on_an_empty_one() -> None:
    turn = calls(
        ReasoningPart("", "one"), ReasoningPart("", "two"), ToolCallPart("1", "f", "{}", "three"), ReasoningPart("", "four")
    )

    parts = contents(user("?"), turn)[1]["parts"]

    assert [part["thoughtSignature"] for part in parts] == ["one", "two", "three", "four"]
    assert [part.get("text") for part in parts] == ["", "", None, ""]


@pytest.mark.parametrize(
    ("model", "signatures"),
    [
        (NEW, [SKIP_SIGNATURE, None]),
        ("publishers/google/models/gemini-3.5-flash", [SKIP_SIGNATURE, None]),
        ("gemini-flash-latest", [SKIP_SIGNATURE, None]),
        (OLD, [None, None]),
        ("gemma-3-27b-it", [None, None]),
    ],
)
def test_calls_of_another_model_are_marked_for_models_that_insist_on_a_signature(model: str, signatures: list) -> None:
    turn = calls(ToolCallPart("1", "f", "{}"), ToolCallPart("2", "f", "{}"))

    parts = contents(user("?"), turn, model=model)[1]["parts"]

    assert [part.get("thoughtSignature") for part in parts] == signatures


def test_generation_settings_have_geminis_names_and_unset_ones_are_left_out() -> None:
    full = Generation(
        temperature=0.0,
        top_p=0.9,
        max_tokens=10,
        stop=("END",),
        seed=0,
        n=2,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logprobs=True,
        top_logprobs=3,
    )

    assert config(Generation()) == {}
    assert config(full) == {
        "temperature": 0.0,
        "topP": 0.9,
        "maxOutputTokens": 10,
        "stopSequences": ("END",),
        "seed": 0,
        "candidateCount": 2,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "responseLogprobs": True,
        "logprobs": 3,
    }


def test_structured_output_takes_the_json_schema_as_it_is() -> None:
    schema = {"type": "object", "$defs": {}, "additionalProperties": False}

    assert config(Generation(response_format=ResponseFormat("text"))) == {}
    assert config(Generation(response_format=ResponseFormat("json_object"))) == {"responseMimeType": "application/json"}
    assert config(Generation(response_format=ResponseFormat("json_schema", schema=schema))) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        (OLD, "none", {"thinkingBudget": 0}),
        (OLD, "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        (NEW, "none", {"thinkingLevel": "MINIMAL"}),
        (NEW, "xhigh", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-3-pro-preview", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
    ],
)
def test_reasoning_effort_is_a_budget_before_gemini_3_and_a_level_since(model: str, effort, thinking: dict) -> None:
    assert config(Generation(reasoning_effort=effort), model) == {"thinkingConfig": thinking}


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (NamedTool("f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tools_are_declared_with_their_json_schema(choice: ToolChoice, calling: dict | None) -> None:
    tools = (ToolDefinition("f", "does f", {"type": "object", "properties": {}}), ToolDefinition("g"))

    body = encode_request(ChatRequest(OLD, (user("hi"),), tools=tools, tool_choice=choice))

    assert body["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "parametersJsonSchema": {"type": "object", "properties": {}}, "description": "does f"},
                {"name": "g", "parametersJsonSchema": {"type": "object", "properties": {}}},
            ]
        }
    ]
    assert body.get("toolConfig") == (calling and {"functionCallingConfig": calling})


def test_extra_adds_to_the_settings_and_overrides_them() -> None:
    extra = {"generationConfig": {"topK": 5, "seed": 2}, "safetySettings": []}

    body = encode_request(ChatRequest(OLD, (user("hi"),), Generation(temperature=1.0, seed=1), extra=extra))

    assert body["generationConfig"] == {"temperature": 1.0, "seed": 2, "topK": 5}
    assert body["safetySettings"] == []
