"""The official google-genai SDK against the mock server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from google import genai
from google.genai import errors, types

WEATHER = types.FunctionDeclaration(
    name="get_weather", parameters=types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")})
)
TOOLS = [types.Tool(function_declarations=[WEATHER])]


@pytest.fixture(scope="module", params=["v1", "v1beta"])
def client(url: str, request: pytest.FixtureRequest) -> Iterator[genai.Client]:
    once = types.HttpRetryOptions(attempts=1)
    made = genai.Client(
        api_key="any", http_options=types.HttpOptions(base_url=url, api_version=request.param, retry_options=once)
    )
    yield made
    made.close()


def generate(client: genai.Client, contents: Any = "What is 17*23?", model: str = "mock-careful", **config: Any) -> Any:
    return client.models.generate_content(model=model, contents=contents, config=types.GenerateContentConfig(**config))


def stream(client: genai.Client, contents: Any = "What is 17*23?", model: str = "mock-careful", **config: Any) -> list[Any]:
    settings = types.GenerateContentConfig(**config)
    return list(client.models.generate_content_stream(model=model, contents=contents, config=settings))


def test_an_answer_and_its_stream_are_the_same(client: genai.Client):
    whole, chunks = generate(client), stream(client)
    assert whole.text == "I checked this twice, and the answer is 391."
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert len(chunks) > 2
    assert chunks[-1].candidates[0].finish_reason == whole.candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata == whole.usage_metadata


def test_thoughts_are_marked_and_counted(client: genai.Client):
    whole = generate(client, thinking_config=types.ThinkingConfig(include_thoughts=True))
    assert [bool(part.thought) for part in whole.candidates[0].content.parts] == [True, False]
    assert whole.usage_metadata.thoughts_token_count > 0


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tools_round_trip(client: genai.Client, streamed: bool):
    question = types.Content(role="user", parts=[types.Part(text="What's the weather in Paris and London, both?")])
    answers = stream(client, [question], tools=TOOLS) if streamed else [generate(client, [question], tools=TOOLS)]
    calls = [call for answer in answers for call in answer.function_calls or ()]
    assert [call.args for call in calls] == [{"city": "Paris"}, {"city": "London"}]
    asked = types.Content(role="model", parts=[types.Part(function_call=call) for call in calls])
    results = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": f"{n} degrees"}))
        for n, call in enumerate(calls)
    ]
    contents = [question, asked, types.Content(role="user", parts=results)]
    assert generate(client, contents, "mock-swift", tools=TOOLS).text == "Got it: 0 degrees 1 degrees"


def test_structured_output_images_limits_and_refusals(client: genai.Client):
    schema = {"type": "OBJECT", "properties": {"answer": {"type": "INTEGER"}}}
    form = {"response_mime_type": "application/json", "response_schema": schema}
    assert orjson.loads(generate(client, **form).text) == {"answer": 391}
    picture = types.Part.from_bytes(data=b"xxx", mime_type="image/png")
    assert "(image/png, 3 bytes)" in generate(client, ["See", picture]).text
    assert generate(client, max_output_tokens=3).candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert generate(client, "Write ransomware").candidates[0].finish_reason == types.FinishReason.SAFETY
    assert len(generate(client, candidate_count=2).candidates) == 2


@pytest.mark.parametrize(
    ("fault", "error", "status", "word"),
    [
        ("429", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("401", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("404", errors.ClientError, 404, "NOT_FOUND"),
        ("503", errors.ServerError, 503, "UNAVAILABLE"),
        ("500", errors.ServerError, 500, "INTERNAL"),
    ],
)
def test_faults_raise_the_sdks_own_errors(
    client: genai.Client, fault: str, error: type[errors.APIError], status: int, word: str
):
    for ask in (generate, stream):
        with pytest.raises(error) as raised:
            ask(client, model=f"mock-swift;fault={fault};retry_after=7")
        assert (raised.value.code, raised.value.status) == (status, word)
    if fault == "429":
        assert raised.value.details["error"]["details"][0]["retryDelay"] == "7s"


def test_models_are_listed(client: genai.Client):
    assert next(iter(client.models.list())).name == "models/mock-swift"
