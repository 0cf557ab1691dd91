"""`quorum mock`: the personas behind three vendors' HTTP interfaces, for SDKs, tests and benchmarks.

    POST /v1/chat/completions                         OpenAI
    POST /v1/messages                                 Anthropic
    POST /v1beta/models/{model}:generateContent       Gemini (also :streamGenerateContent, and under /v1)
    GET  /v1/models, /v1beta/models                   in the shape the caller's headers or path ask for

Every key is accepted. `app.providers.mock.faults` lists the knobs. Equal requests have equal answers, so what was written once
is kept and written again: a repeated request costs a lookup.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.core.chat import ChatRequest
from app.providers.mock.answering import respond
from app.providers.mock.faults import FAULTS, Fault, KnobError, Knobs, normalise, split_model
from app.providers.mock.options import Cast
from app.providers.mock.pacing import chunked, pace
from app.providers.mock.personas import DEFAULT_PERSONAS, Persona
from app.providers.mock.playbook import Declined, Playbook, check_takes
from app.providers.mock.server.anthropic import AnthropicMessages
from app.providers.mock.server.delivery import Answer, Delivery
from app.providers.mock.server.gemini import GeminiContent
from app.providers.mock.server.openai import OpenAIChat
from app.providers.mock.server.wire import BadRequest, Dialect, Problem

_KNOB_HEADER = b"x-mock-"
_MAX_KEPT, _MAX_KEPT_BODY = 512, 65_536
"""Answers kept, and the bytes up to which a request body is kept with its answer."""


def create_mock_app(personas: Mapping[str, Persona] = DEFAULT_PERSONAS, *, latency_scale: float = 1.0) -> Starlette:
    """The mock server. `latency_scale` multiplies the personas' own times (0: answer at once)."""
    playbook = Playbook(Cast(personas, latency_scale))
    routes = [
        Route("/v1/chat/completions", Endpoint(OpenAIChat(), playbook), methods=["POST"]),
        Route("/v1/messages", Endpoint(AnthropicMessages(), playbook), methods=["POST"]),
    ]
    gemini = Endpoint(GeminiContent(), playbook)
    for version in ("v1beta", "v1"):
        for method in ("generateContent", "streamGenerateContent"):
            path = f"/{version}/models/{{model}}:{method}"
            routes.append(Route(path, gemini, methods=["POST"], name=method))

    async def models(request: Request) -> Response:
        listed = _list_dialect(request).models(tuple(personas.values()))
        return Response(orjson.dumps(listed), media_type="application/json")

    routes += [Route(f"/{version}/models", models) for version in ("v1", "v1beta")]
    return Starlette(routes=routes)


def _list_dialect(request: Request) -> Dialect:
    if request.url.path.startswith("/v1beta") or "x-goog-api-key" in request.headers:
        return GeminiContent()
    return AnthropicMessages() if "anthropic-version" in request.headers else OpenAIChat()


class Endpoint:
    """One dialect's generation endpoint, as an ASGI application."""

    def __init__(self, dialect: Dialect, playbook: Playbook) -> None:
        self.dialect = dialect
        self.playbook = playbook
        self._kept: OrderedDict[tuple[Any, ...], Answer] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        turned = tuple((key, value) for key, value in scope["headers"] if key.startswith(_KNOB_HEADER))
        key = (scope["path"], scope["query_string"], turned, body)
        answer = self._kept.get(key)
        if answer is None:
            answer, lasting = self._answer(scope, turned, body)
            if lasting and len(body) <= _MAX_KEPT_BODY:
                self._keep(key, answer)
        await Delivery(answer, receive, send).run()

    def _keep(self, key: tuple[Any, ...], answer: Answer) -> None:
        self._kept[key] = answer
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)

    def _answer(self, scope: Scope, turned: tuple[tuple[bytes, bytes], ...], body: bytes) -> tuple[Answer, bool]:
        """The answer, and whether it will be the same next time."""
        try:
            request = self.dialect.parse(_object(body), _path(scope))
            model, by_name = split_model(request.model)
            by_header = {key.decode("latin-1")[len(_KNOB_HEADER) :]: value.decode("latin-1") for key, value in turned}
            persona = self.playbook.persona(model)
            request = replace(request, model=model)
            knobs = self.playbook.knobs(persona, request, normalise(by_header) | normalise(by_name))
            check_takes(persona, request)
        except (BadRequest, KnobError) as error:
            return self._problem(Problem("invalid_request", 400, str(error)), _PLAIN), True
        except Declined as no:
            return self._problem(Problem(no.failure, no.status, no.message, no.code), _PLAIN), True
        return self._encode(persona, request, _on_wire(knobs)), knobs.times is None and not persona.script

    def _encode(self, persona: Persona, request: ChatRequest, knobs: Knobs) -> Answer:
        response = respond(persona, request, knobs)
        latency_s, gap_s = pace(persona, knobs, self.playbook.cast.latency_scale)
        pieces = chunked(response, chars=persona.chunk_chars, chunks=knobs.chunks)
        if request.incremental:
            streamed = request.extra is None or request.extra.get("sse", True)
            answer = Answer(
                latency_s,
                gap_s,
                frames=self.dialect.frames(request, response, pieces),
                content_type="text/event-stream; charset=utf-8" if streamed else "application/json",
            )
        else:
            answer = Answer(latency_s, gap_s * len(pieces), orjson.dumps(self.dialect.whole(request, response)))
        fault = knobs.fault
        if fault is None or fault.form in ("refusal", "garble"):
            return answer
        problem = Problem(fault.failure, fault.status or 500, fault.message, fault.code, knobs.retry_after)
        return replace(self._problem(problem, answer), fault=fault, after=knobs.after)

    def _problem(self, problem: Problem, answer: Answer) -> Answer:
        """The answer, with what is told when it fails."""
        headers = tuple((key.encode(), value.encode()) for key, value in self.dialect.error_headers(problem).items())
        status, body = self.dialect.error(problem)
        return replace(
            answer,
            fault=_SAID,
            problem=replace(problem, status=status),
            problem_body=orjson.dumps(body),
            problem_frame=self.dialect.error_frame(problem),
            problem_headers=headers,
        )


_PLAIN = Answer(0.0, 0.0)
_SAID = FAULTS["400"]


def _on_wire(knobs: Knobs) -> Knobs:
    """The knobs, with a fault that no vendor tells by a status shown as the wire would show it."""
    fault = knobs.fault
    if fault is None or fault.form != "error" or fault.status not in (None, 200):
        return knobs
    shown: Mapping[str, Fault] = {"timeout": FAULTS["hang"], "invalid_output": FAULTS["garble"]}
    return replace(knobs, fault=shown.get(fault.failure, FAULTS["reset"]))


def _path(scope: Scope) -> Mapping[str, str]:
    """What the path and the query say: Gemini's model, its method, and `alt`."""
    params: Mapping[str, str] = scope["path_params"]
    query = dict(pair.partition("=")[::2] for pair in scope["query_string"].decode("latin-1").split("&"))
    return {**params, "method": scope["path"].rpartition(":")[2], "alt": query.get("alt", "")}


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except ValueError:
        raise BadRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(parsed, dict):
        raise BadRequest("the body must be a JSON object")
    return cast(dict[str, Any], parsed)


async def _read(receive: Receive) -> bytes | None:
    """The request's body; None when the client left before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
