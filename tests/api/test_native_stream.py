from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.frames import Frame, frames
from tests.support.loopback import Answer, Loopback, as_json
from tests.support.serving import Serving, serving, upstream

PANEL = {"input": "Name three uses of a quorum.", "strategy": "simple"}
DIFFERS = {"id", "created_at", "latency_ms", "ttft_ms", "timing", "started_at", "request_id", "seconds", "estimated_seconds"}
"""Members that no two runs have in common."""


async def streamed(service: Serving, body: dict[str, Any]) -> list[Frame]:
    answer = await service.client.post("/v1/orchestrations", json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    return frames(answer.text)


def same(value: Any) -> Any:
    """`value` without what differs from run to run."""
    match value:
        case dict():
            return {key: same(member) for key, member in value.items() if key not in DIFFERS}
        case list():
            return [same(item) for item in value]
        case _:
            return value


async def test_frames_have_their_type_their_number_and_their_run(service: Serving) -> None:
    found = await streamed(service, PANEL)
    assert [frame.fields["id"] for frame in found] == [str(number) for number in range(1, len(found) + 1)]
    for frame in found:
        assert list(frame.fields) == ["event", "id", "data"]
        assert frame.json["type"] == frame.fields["event"]
        assert frame.json["seq"] == int(frame.fields["id"])
        assert frame.json["run_id"] == found[0].json["run_id"]
    assert found[0].fields["event"] == "run.started"
    ends = [frame for frame in found if frame.fields["event"] in ("run.finished", "run.failed")]
    assert ends == [found[-1]]
    assert found[-1].fields["event"] == "run.finished"


async def test_headers(service: Serving) -> None:
    answer = await service.client.post("/v1/orchestrations", json=PANEL, headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-quorum-run-id"] == frames(answer.text)[0].json["run_id"]


async def test_candidates_speak_in_turns_before_the_output(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    config = {"providers": {"mock": {"kind": "mock", "options": {"latency_scale": 0.2}}}}
    async with serving(tmp_path, valkey.url, config) as service:
        found = await streamed(service, PANEL)
    types = [frame.fields["event"] for frame in found]
    output = types.index("output.delta")
    assert "candidate.delta" not in types[output:]
    models = [frame.json["model"] for frame in found if frame.fields["event"] == "candidate.delta"]
    turns = sum(one != other for one, other in pairwise(models))
    assert len(set(models)) == 3
    assert turns > 3


@pytest.mark.parametrize(
    "body",
    [
        PANEL,
        {"input": "What is 6 * 7?", "strategy": "direct"},
        {**PANEL, "options": {"analysis": "critique"}},
        {**PANEL, "options": {"layers": 2}},
        {**PANEL, "models": ["mock/mock-terse"]},
        {**PANEL, "input": "Who? [[mock: fault=server_error model=mock-swift]]"},
        {**PANEL, "metadata": {"team": "red"}},
    ],
)
async def test_the_result_is_the_json_answer_and_the_sum_of_the_deltas(service: Serving, body: dict[str, Any]) -> None:
    whole = (await service.client.post("/v1/orchestrations", json=body)).json()
    found = await streamed(service, body)
    result = found[-1].json["result"]
    assert same(result) == same(whole)
    assert result["id"] == found[0].json["run_id"]
    deltas = [frame.json for frame in found if frame.fields["event"] == "output.delta"]
    output = "".join(delta["text"] for delta in deltas if delta["kind"] == "text")
    assert output == result["output"]["text"]
    for candidate in result["candidates"]:
        said = [f.json for f in found if f.fields["event"] == "candidate.delta" and f.json["kind"] == "text"]
        assert "".join(piece["text"] for piece in said if piece["candidate_id"] == candidate["id"]) == candidate["text"]
        ended = [f.json["candidate"] for f in found if f.fields["event"] in ("candidate.finished", "candidate.failed")]
        assert candidate in ended or candidate["score"] is not None


async def test_a_late_failure_is_an_event(service: Serving) -> None:
    found = await streamed(service, {"input": "Who? [[mock: fault=midstream-error:2]]", "strategy": "direct"})
    assert [frame.fields["event"] for frame in found[-2:]] == ["candidate.failed", "run.failed"]
    last = found[-1].json
    assert last["error"]["failure"] == "overloaded"
    assert last["result"]["status"] == "failed"
    assert last["result"]["candidates"][0]["text"]


@pytest.mark.parametrize(("status", "ours"), [(429, 429), (500, 502), (503, 503), (400, 400), (401, 502), (404, 502)])
@pytest.mark.parametrize("dialect", ["openai", "native"])
async def test_a_failure_before_the_first_token_has_its_own_status(
    tmp_path: Path, valkey: EmbeddedValkey, status: int, ours: int, dialect: str
) -> None:
    refusal = as_json({"error": {"message": "not today"}}, status)
    async with Loopback(refusal) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        if dialect == "openai":
            body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
            answer = await service.client.post("/v1/chat/completions", json=body)
            assert answer.status_code == ours
            assert answer.headers["content-type"] == "application/problem+json"
        else:
            answer = await service.client.post(
                "/v1/orchestrations", json={"input": "Hi", "strategy": "direct", "models": ["m"], "stream": True}
            )
            assert frames(answer.text)[-1].fields["event"] == "run.failed"
        assert "not today" in answer.text


async def test_only_data_and_one_done_in_the_openai_dialect(service: Serving) -> None:
    body = {"model": "quorum/simple", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    answer = await service.client.post("/v1/chat/completions", json=body)
    found = frames(answer.text)
    assert all(list(frame.fields) == ["data"] for frame in found)
    assert [frame.fields["data"] for frame in found].count("[DONE]") == 1
    assert found[-1].fields["data"] == "[DONE]"
    assert answer.headers["x-accel-buffering"] == "no"


async def test_comments_keep_a_silent_stream_alive(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    silent = Answer(headers={"content-type": "text/event-stream"}, hold_after=0)
    async with (
        Loopback(silent) as provider,
        serving(tmp_path, valkey.url, upstream(provider.url), keep_alive_s=0.05) as service,
        service.client.stream(
            "POST", "/v1/orchestrations", json={"input": "Hi", "strategy": "direct", "models": ["m"], "stream": True}
        ) as answer,
    ):
        text = ""
        async for piece in answer.aiter_text():
            text += piece
            if text.count(": keep-alive\n\n") == 3:
                break
        assert text.endswith("\n\n: keep-alive\n\n: keep-alive\n\n: keep-alive\n\n")
