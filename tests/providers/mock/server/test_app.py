"""The application as ASGI calls it, without a network."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.providers.mock.server import create_mock_app

PATHS = ("/v1/chat/completions", "/v1/messages", "/v1beta/models/mock-careful:generateContent")


async def call(path: str, body: bytes, receive_more: Any = None, **headers: str) -> list[dict[str, Any]]:
    """What the application sends for one request; after the body, `receive_more` is what it receives."""
    sent: list[dict[str, Any]] = []
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        message = next(messages, None)
        if message is not None:
            return message
        if receive_more is not None:
            return await receive_more()
        return await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(f"x-mock-{name}".replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": raw, "root_path": ""}
    await create_mock_app(latency_scale=0)(scope, receive, send)
    return sent


@pytest.mark.parametrize("knobs", [{"fault": "hang"}, {"fault": "hang:1"}, {"latency": "60000"}, {"chunk": "60000"}])
async def test_an_answer_ends_when_its_client_leaves(knobs: dict[str, str]):
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    body = orjson.dumps({"model": "mock-swift", "stream": True, "messages": [{"role": "user", "content": "Explain tides"}]})
    sent = await asyncio.wait_for(call(PATHS[0], body, gone, **knobs), 1)
    assert not any(message["type"] == "http.response.body" and not message["more_body"] for message in sent)
    assert len(asyncio.all_tasks()) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "user", "text", "auto", "object", "json_schema", "enabled"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "function", "name", "schema", "parts", "source"]), inner
        )
    ),
    max_leaves=6,
)
MEMBERS = {
    PATHS[0]: "messages stream tools tool_choice response_format stop n max_tokens stream_options temperature seed",
    PATHS[1]: "messages system stream tools tool_choice thinking stop_sequences max_tokens output_config metadata",
    PATHS[2]: "contents systemInstruction tools toolConfig generationConfig safetySettings",
}
SOUND = {
    PATHS[0]: {"model": "mock-careful", "messages": [{"role": "user", "content": "What is 2+2?"}]},
    PATHS[1]: {"model": "mock-careful", "max_tokens": 9, "messages": [{"role": "user", "content": "What is 2+2?"}]},
    PATHS[2]: {"contents": [{"parts": [{"text": "What is 2+2?"}]}]},
}


@pytest.mark.parametrize("path", PATHS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_body_is_answered_or_refused(path: str, data: st.DataObject):
    changes = data.draw(st.dictionaries(st.sampled_from(MEMBERS[path].split()), JSON, max_size=2))
    sent = asyncio.run(call(path, orjson.dumps(SOUND[path] | changes)))
    assert sent[0]["status"] in (200, 400)
    assert sent[-1]["more_body"] is False
