"""An answer that has not the shape that was asked for is asked again once, with the fault told.

Only answers that nobody has seen yet: a stream that was shown cannot be taken back, it fails. OpenAI's `response_format`
with `strict` makes faults rare; vendors without it promise nothing. The worst case of a call that is to give JSON counts both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from app.core.chat import ChatRequest, ChatResponse, ResponseFormat
from app.core.errors import DeadlineExceeded, ProviderError
from app.core.messages import assistant, user
from app.core.model_events import ModelEvent, ResponseFinished
from app.core.models import Call, ModelProfile, Policy
from app.core.shapes import misshapen
from app.core.streams import close
from app.core.usage import NO_USAGE, Usage
from app.observability.metrics import REPAIRS
from app.observability.model_counts import model_label
from app.reliability.forecast import used_unanswered

AGAIN = "That answer cannot be used: {fault}\nAnswer again with the corrected JSON only, without any other text."


def repair(profile: ModelProfile) -> Policy:
    """Check answers that are to be JSON. One that stays wrong fails with `invalid_output`, and says what it used."""

    def failed(fault: str, used: Usage) -> ProviderError:
        return ProviderError(
            f"provider {profile.provider!r} ({profile.model}): the answer has not the shape that was asked for: {fault}",
            failure="invalid_output",
            provider=profile.provider,
            model=profile.model,
            usage=used,
        )

    def counted(outcome: str) -> None:
        REPAIRS.labels(profile.provider, model_label(profile.name), outcome).inc()

    def policy(call: Call) -> Call:
        async def checked(request: ChatRequest, form: ResponseFormat) -> AsyncIterator[ModelEvent]:
            used, asked_again = NO_USAGE, False
            while True:
                response: ChatResponse | None = None
                source = call(request)
                try:
                    async for event in source:
                        if type(event) is ResponseFinished:
                            response = event.response
                        elif request.incremental:
                            yield event
                except ProviderError as error:
                    error.usage += used
                    raise
                except (asyncio.CancelledError, DeadlineExceeded):
                    if asked_again:
                        request.context.used = used + used_unanswered(request, None, None)
                    raise
                finally:
                    await close(source)
                if response is None:
                    return
                used += response.usage
                wrong = misshapen(response, form)
                if wrong is None:
                    if asked_again:
                        counted("repaired")
                    yield ResponseFinished(replace(response, usage=used) if asked_again else response)
                    return
                if asked_again or request.incremental:
                    counted("failed")
                    raise failed(wrong.fault, used)
                asked_again = True
                told = (assistant(wrong.text), user(AGAIN.format(fault=wrong.fault)))
                request = replace(request, messages=(*request.messages, *told))

        def called(request: ChatRequest) -> AsyncIterator[ModelEvent]:
            form = request.generation.response_format
            return call(request) if form is None or form.type == "text" else checked(request, form)

        return called

    return policy
