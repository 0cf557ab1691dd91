"""Answers that are not the JSON asked for: asked again once with the fault told, else a failure that says what it used."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from app.core.chat import ChatRequest, ChatResponse, Choice, Generation, ResponseFormat
from app.core.errors import DeadlineExceeded, ProviderError, QuorumError
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished, TextDelta
from app.core.models import ModelProfile
from app.core.usage import Usage
from app.reliability.repair import repair

FORM = ResponseFormat("json_schema", schema={"type": "object", "required": ["n"]})
PROFILE = ModelProfile("fast", "p", "m")
ONCE = Usage(10, 5)


class Upstream:
    """Answers with one of `texts` after the other; an error is raised."""

    def __init__(self, *texts: str | QuorumError) -> None:
        self.texts = texts
        self.asked: list[ChatRequest] = []

    async def __call__(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        said = self.texts[len(self.asked)]
        self.asked.append(request)
        if isinstance(said, QuorumError):
            raise said
        if request.incremental:
            yield TextDelta(said)
        yield ResponseFinished(ChatResponse("r", "m", (Choice(0, said),), ONCE))


async def ask(upstream: Upstream, *, form: ResponseFormat | None = FORM, incremental: bool = False) -> list[ModelEvent]:
    request = ChatRequest("m", (user("n?"),), Generation(response_format=form), incremental=incremental)
    return [event async for event in repair(PROFILE)(upstream)(request)]


async def test_the_fault_is_told_and_both_calls_are_paid() -> None:
    upstream = Upstream("n is 1", '{"n": 1}')
    [end] = await ask(upstream)
    assert isinstance(end, ResponseFinished)
    assert end.response.choices[0].text == '{"n": 1}'
    assert end.response.usage == ONCE + ONCE
    asked, answered, told = upstream.asked[1].messages
    assert (asked, answered.text) == (user("n?"), "n is 1")
    assert "it is not JSON" in told.text


async def test_once_only() -> None:
    upstream = Upstream("no", "{}")
    with pytest.raises(ProviderError, match="has not the shape that was asked for: the whole") as caught:
        await ask(upstream)
    assert caught.value.failure == "invalid_output"
    assert caught.value.usage == ONCE + ONCE
    assert len(upstream.asked) == 2


async def test_a_failure_of_the_second_call_says_what_the_first_used() -> None:
    failure = ProviderError("busy", failure="overloaded", provider="p")
    with pytest.raises(ProviderError, match="busy") as caught:
        await ask(Upstream("no", failure))
    assert caught.value.usage == ONCE


async def test_what_was_shown_is_not_said_again() -> None:
    upstream = Upstream("no")
    with pytest.raises(ProviderError) as caught:
        await ask(upstream, incremental=True)
    assert caught.value.failure == "invalid_output"
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("form", [None, ResponseFormat("text")])
async def test_text_is_left_alone(form: ResponseFormat | None) -> None:
    [end] = await ask(Upstream("n is 1"), form=form)
    assert isinstance(end, ResponseFinished)


async def test_where_the_second_call_is_cut_what_the_first_used_is_known() -> None:
    request = ChatRequest("m", (user("n?"),), Generation(response_format=FORM))
    too_late = DeadlineExceeded("too late")
    with pytest.raises(DeadlineExceeded):
        async for _ in repair(PROFILE)(Upstream("no", too_late))(request):
            pass
    assert request.context.used == ONCE
