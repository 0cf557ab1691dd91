"""JSON of any shape, made of the dialect's own words: it is read, or refused in a way that the provider knows."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.chat import ChatResponse
from app.core.model_events import ResponseStarted, fold, unfold
from app.providers.http_provider import DialectError, Failure
from app.providers.openai.decoding import decode_response
from app.providers.openai.errors import failure_of_body, failure_of_status
from app.providers.openai.stream import OpenAIStreamDecoder

UNKNOWN_SHAPE = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What the provider reports as an answer of unknown shape."""

WORDS = [
    "id",
    "model",
    "created",
    "choices",
    "index",
    "delta",
    "message",
    "content",
    "role",
    "refusal",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "tool_calls",
    "function",
    "function_call",
    "name",
    "arguments",
    "finish_reason",
    "logprobs",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "x_groq",
    "prompt_tokens_details",
    "cached_tokens",
    "completion_tokens_details",
    "reasoning_tokens",
    "error",
    "code",
    "type",
    "param",
    "status",
    "metadata",
    "raw",
    "innererror",
    "thinking",
    "text",
    "stop",
    "error",
    "429",
    "insufficient_quota",
]

scalars = st.none() | st.booleans() | st.integers(-2, 600) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=25,
)


def objects(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object in which each member is missing, as it should be, or anything."""
    mostly = {name: st.integers(0, 9).flatmap(lambda n, s=s: s if n else values) for name, s in members.items()}
    return st.fixed_dictionaries({}, optional=mostly)


calls = st.lists(
    objects(index=st.integers(0, 2), id=st.sampled_from("ab"), function=objects(name=st.just("f"), arguments=st.just("{}"))),
    max_size=3,
)
spoken = objects(content=st.text(max_size=3), tool_calls=calls, refusal=st.just("no"), reasoning=st.just("hm"))
choice = objects(index=st.integers(0, 1), delta=spoken, message=spoken, finish_reason=st.sampled_from(["stop", "length"]))
body = objects(id=st.just("r"), model=st.just("m"), choices=st.lists(choice, min_size=1, max_size=2), usage=values)


def is_sound(response: ChatResponse) -> bool:
    for made in response.choices:
        texts = (made.text, made.reasoning, made.refusal, *(part for call in made.tool_calls for part in (call.id, call.name)))
        assert all(isinstance(text, str) for text in texts)
        assert isinstance(made.index, int)
    assert min(response.usage.input_tokens, response.usage.output_tokens) >= 0
    return fold(unfold(response)) == response


@given(body)
def test_a_whole_body_is_read_or_refused(sent: dict[str, Any]) -> None:
    with suppress(DialectError, *UNKNOWN_SHAPE):
        assert is_sound(decode_response(orjson.loads(orjson.dumps(sent)), {}))


@given(st.lists(body, max_size=5), st.booleans())
@settings(max_examples=200)
def test_a_stream_is_read_or_refused(chunks: list[dict[str, Any]], done: bool) -> None:
    decoder = OpenAIStreamDecoder(done_marker=done, provider_request_id=None)
    try:
        for data in [*map(orjson.dumps, chunks), *([b"[DONE]"] if done else [])]:
            for event in decoder.feed(b"", data):
                if not isinstance(event, ResponseStarted):
                    decoder.builder.add(event)
    except (DialectError, *UNKNOWN_SHAPE):
        return
    with suppress(DialectError):
        assert is_sound(decoder.finish())


@given(values, st.integers(400, 599))
def test_an_error_answer_always_has_a_class_and_a_text(sent: Any, status: int) -> None:
    for failure in (failure_of_status(status, {}, orjson.dumps(sent)), failure_of_body(sent)):
        assert isinstance(failure, Failure)
        assert failure.message


@given(st.binary(max_size=200), st.integers(400, 599))
def test_an_error_answer_of_any_bytes_does_too(sent: bytes, status: int) -> None:
    assert failure_of_status(status, {}, sent).message


def test_deep_nesting_does_not_exhaust_the_stack() -> None:
    deep = b"[" * 1000 + b"]" * 1000
    assert failure_of_status(400, {}, deep).failure == "invalid_request"
    assert failure_of_status(400, {}, b'{"error":' * 1000 + b"1" + b"}" * 1000).failure == "invalid_request"
