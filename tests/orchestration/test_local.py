"""Strategies run from Python, without the service."""

from __future__ import annotations

import pytest

from app.config.spec import LLMProvider
from app.core.errors import InvalidRequest, NotFound
from app.core.messages import assistant, user
from app.core.run_events import CandidateDelta, RunFinished
from app.orchestration.direct import DirectOrchestrator
from app.orchestration.simple import SimpleOrchestrator
from tests.support.loopback import Loopback, as_json

ANSWER = {"id": "r", "model": "m", "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}


def provider(server: Loopback) -> LLMProvider:
    return LLMProvider.model_validate({"kind": "openai_compatible", "base_url": server.url})


async def test_a_strategy_answers_with_the_mock_provider_until_another_is_registered() -> None:
    async with SimpleOrchestrator() as simple:
        result = await simple.process("What is 2 + 2?")
        assert result.status == "succeeded"
        assert len(result.candidates) == 3
        assert {candidate.provider for candidate in result.candidates} == {"mock"}


async def test_a_registered_provider_takes_the_place_of_the_mock() -> None:
    async with Loopback(as_json(ANSWER)) as server, DirectOrchestrator() as direct:
        direct.register_provider("mine", provider(server))
        result = await direct.process("hi", selected_models=["mine/any-model"])
        assert (result.output.text, result.output.source_model) == ("hi", "mine/any-model")
        assert server.received[0].json["model"] == "any-model"
        checks = await direct.check_models_availability()
        assert [check.provider for check in checks] == ["mine"]
        with pytest.raises(NotFound):
            await direct.process("hi", selected_models=["mock/any"])


async def test_whole_messages_can_be_given_and_options_go_to_the_strategy() -> None:
    async with SimpleOrchestrator() as simple:
        result = await simple.process([user("hi"), assistant("yes?"), user("What is 2 + 2?")], analysis="none")
        assert result.status == "succeeded"
        assert result.analysis is None
        with pytest.raises(InvalidRequest, match=r"options.nonsense"):
            await simple.process("hi", nonsense=True)


async def test_the_stream_tells_everything_and_ends_in_the_result_that_process_gives() -> None:
    async with DirectOrchestrator() as direct:
        events = [event async for event in direct.stream("What is 2 + 2?")]
        result = await direct.process("What is 2 + 2?")
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.result is not None
    assert any(isinstance(event, CandidateDelta) for event in events)
    assert last.result.output == result.output
