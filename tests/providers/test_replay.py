from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse
from app.core.errors import ConfigError, ProviderError
from app.core.messages import assistant, user
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted, TextDelta, fold
from app.core.usage import FlatPrice, Usage
from app.providers.recording import read_recording
from app.providers.replay import ReplayProvider, replay_provider

ANSWERS = Path(__file__).resolve().parents[3] / "shared" / "answers"

ROWS: list[dict[str, Any]] = [
    {
        "id": "q1",
        "question": "What is the  highest mountain?",
        "answers": {
            "big": {"text": "Mount Everest", "latency_ms": 40, "cost_usd": 0.002, "input_tokens": 6, "output_tokens": 4},
            "small": "K2",
            "broken": {"error": {"failure": "rate_limited", "message": "slow down", "status": 429, "retry_after": 3}},
        },
    },
    {"id": "q2", "prompt": "What is the highest mountain in Spain?", "answers": {"big": "Teide", "small": None}},
    {"id": "q3", "prompt": "x^2 + 1", "answers": {"big": True, "small": 0.5}},
    {"id": "q4", "prompt": "x^2 - 1", "answers": {"big": {"text": "cut", "finish_reason": "length"}}},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    return path


def replay(file: Path, **options: Any) -> ReplayProvider:
    return replay_provider("tape", LLMProvider(kind="replay", options={"file": str(file), "latency": "none", **options}))


async def events(provider: ReplayProvider, request: ChatRequest) -> list[ModelEvent]:
    return [event async for event in provider.stream(request)]


async def ask(provider: ReplayProvider, prompt: str, model: str = "big", **more: Any) -> ChatResponse:
    last = (await events(provider, ChatRequest(model, (user(prompt),), **more)))[-1]
    assert isinstance(last, ResponseFinished)
    return last.response


async def test_a_question_gets_its_models_recorded_answer(file: Path):
    response = await ask(replay(file), "What is the highest mountain?")
    assert response.choices[0].text == "Mount Everest"
    assert response.usage == Usage(6, 4)
    assert (await ask(replay(file), "What is the highest mountain?", "small")).choices[0].text == "K2"


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("  what is THE highest\nmountain? ", "Mount Everest"),
        ("Think first.\n<question>What is the highest mountain?</question>\nAnswer:", "Mount Everest"),
        ("Be brief: What is the highest mountain in Spain?", "Teide"),
        ("x^2 + 1", "true"),
        ("Solve x^2 - 1.", "cut"),
    ],
)
async def test_a_question_is_found_whatever_stands_around_it(file: Path, prompt: str, answer: str):
    assert (await ask(replay(file), prompt)).choices[0].text == answer


async def test_an_earlier_question_is_found_when_the_last_message_holds_none(file: Path):
    messages = (user("What is the highest mountain?"), assistant("?"), user("Are you sure?"))
    last = (await events(replay(file), ChatRequest("small", messages)))[-1]
    assert isinstance(last, ResponseFinished)
    assert last.response.choices[0].text == "K2"


@pytest.mark.parametrize("extra", [{"id": "q2"}, {"metadata": {"id": "q2"}}])
async def test_an_id_goes_before_the_text(file: Path, extra: dict[str, Any]):
    assert (await ask(replay(file), "What is the highest mountain?", extra=extra)).choices[0].text == "Teide"


async def test_labels_numbers_and_nothing_are_texts(file: Path):
    assert (await ask(replay(file), "x^2 + 1", "small")).choices[0].text == "0.5"
    assert (await ask(replay(file), "What is the highest mountain in Spain?", "small")).choices[0].text == ""
    assert (await ask(replay(file), "x^2 - 1")).choices[0].finish_reason == "length"


async def test_a_recorded_error_is_raised_again(file: Path):
    with pytest.raises(ProviderError, match="slow down") as raised:
        await ask(replay(file), "What is the highest mountain?", "broken")
    assert (raised.value.failure, raised.value.status, raised.value.retry_after) == ("rate_limited", 429, 3)


@pytest.mark.parametrize(
    ("prompt", "model", "extra", "said"),
    [
        ("What is the lowest valley?", "big", None, "no question of .*answers.jsonl is in the prompt"),
        ("What is the highest mountain?", "huge", None, "no answer of 'huge' to 'q1'; there are big, small, broken"),
        ("What is the highest mountain?", "big", {"id": "q9"}, "no question with the id 'q9'"),
    ],
)
async def test_what_was_not_recorded_is_not_found(file: Path, prompt: str, model: str, extra: Any, said: str):
    with pytest.raises(ProviderError, match=said) as raised:
        await ask(replay(file), prompt, model, extra=extra)
    assert raised.value.failure == "not_found"


async def test_a_stream_folds_to_the_same_answer(file: Path):
    request = ChatRequest("big", (user("What is the highest mountain?"),), incremental=True)
    got = await events(replay(file), request)
    assert isinstance(got[0], ResponseStarted)
    assert sum(isinstance(event, TextDelta) for event in got) > 5
    assert fold(got) == await ask(replay(file), "What is the highest mountain?")


@pytest.mark.parametrize("incremental", [False, True])
async def test_the_recorded_latency_is_taken_times_the_scale(file: Path, incremental: bool):
    provider = replay(file, latency="recorded", scale=2)
    await provider.recording()
    loop = asyncio.get_running_loop()
    started = loop.time()
    await events(provider, ChatRequest("big", (user("What is the highest mountain?"),), incremental=incremental))
    assert loop.time() - started >= 0.075


async def test_models_and_average_prices_come_from_the_file(file: Path):
    provider = replay(file)
    assert await provider.models() == ("big", "small", "broken")
    profiles = await provider.profiles()
    assert [profile.name for profile in profiles] == ["big", "small", "broken"]
    assert profiles[0].price == FlatPrice(pytest.approx(200.0), pytest.approx(200.0))
    assert profiles[1].price is None
    assert (await provider.check()).models == ("big", "small", "broken")


async def test_fields_map_other_names(tmp_path: Path):
    path = tmp_path / "other.jsonl"
    usage = {"in": 3, "out": 2}
    path.write_text(json.dumps({"key": 7, "q": "Why?", "by": {"m": {"said": "So.", "latency_s": 0.01, "usage": usage}}}))
    fields = {"id": "key", "question": "q", "answers": "by", "text": "said"}
    fields |= {"input_tokens": "usage.in", "output_tokens": "usage.out"}
    response = await ask(replay(path, fields=fields), "Why?", "m")
    assert (response.choices[0].text, response.usage) == ("So.", Usage(3, 2))
    answer = read_recording(str(path), fields).rows[0].answers["m"]
    assert answer.latency_ms == 10


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r":2: no JSON"),
        ("[]", r":2: no 'question'"),
        ('{"question": "a"}', r":2: no 'answers'"),
        ('{"question": "a", "answers": {}}', r":2: no answers"),
        ('{"question": "a", "answers": {"m": {"txt": "b"}}}', r":2: an answer has neither 'text' nor an error"),
        ('{"question": "a", "answers": {"m": {"text": "b", "latency_ms": "slow"}}}', r":2: latency_ms is 'slow'"),
        ('{"question": "a", "answers": {"m": {"error": {"failure": "bad"}}}}', r":2: error.failure is 'bad'"),
    ],
)
async def test_a_wrong_line_is_named_with_its_number(tmp_path: Path, line: str, said: str):
    path = tmp_path / "wrong.jsonl"
    path.write_text(f"{json.dumps(ROWS[0])}\n{line}\n")
    availability = await replay(path).check()
    assert not availability.available
    with pytest.raises(ConfigError, match=f"wrong.jsonl{said}"):
        read_recording(str(path), {})
    with pytest.raises(ProviderError, match=r"wrong\.jsonl:2"):
        await ask(replay(path), "What is the highest mountain?")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "file: Field required"),
        ({"file": "a", "speed": 1}, "speed: Extra inputs"),
        ({"file": "a", "latency": "real"}, "latency: Input should be 'recorded' or 'none'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=f"provider 'tape': options: {said}"):
        replay_provider("tape", LLMProvider(kind="replay", options=options))


def test_an_unknown_field_and_a_missing_file_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="no member 'txt'"):
        read_recording("any", {"txt": "text"})
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        read_recording(str(tmp_path / "none.jsonl"), {})


@pytest.mark.skipif(not ANSWERS.is_dir(), reason="the recorded answers are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("gsm8k_openai2021", {}),
        ("gsm8k_zeroeval2024", {}),
        ("routellm_gsm8k", {}),
        ("mmlu_pro_categorical", {}),
        ("llmdrift_prime_yesno", {"output_tokens": "completion_tokens"}),
        ("llmdrift_happy_numbers", {"output_tokens": "completion_tokens"}),
        ("routerarena_two_models", {"input_tokens": "usage.input_tokens", "output_tokens": "usage.output_tokens"}),
        ("routellm_mmlu", {"answers": "correct"}),
        ("routerdc_nine_models", {"answers": "scores"}),
    ],
)
def test_every_recorded_file_is_replayed_as_it_is(name: str, fields: dict[str, str]):
    recording = read_recording(str(ANSWERS / f"{name}.jsonl"), fields)
    assert len(recording.models) >= 2
    found = [recording.find(f"Answer this.\n<question>{row.question}</question>\nAnswer:") for row in recording.rows]
    assert all(row is hit for row, hit in zip(recording.rows, found, strict=True))
