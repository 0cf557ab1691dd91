"""Who answers a call, and with which knobs: the same rules in this process and over HTTP."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import jsonschema_rs

from app.core.chat import ChatRequest, JsonObject
from app.core.errors import FailureClass
from app.core.messages import DocumentPart, ImagePart
from app.providers.mock.answering import digest, last_user, stage_of
from app.providers.mock.faults import NO_KNOBS, KnobError, Knobs, directives, knobs_of
from app.providers.mock.options import Cast
from app.providers.mock.personas import Persona
from app.providers.mock.tokens import count_input

_MAX_REMEMBERED = 1_024
"""Prompts whose failures are counted for `times`."""


_MAX_CHOICES = 128
"""OpenAI's bound on `n` (API reference, "Create chat completion")."""


class Declined(Exception):
    """A request that no persona takes: what is wrong with it, and the HTTP status and OpenAI error code of that."""

    def __init__(self, failure: FailureClass, message: str, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.failure: FailureClass = failure
        self.message = message
        self.status = status
        self.code = code


class Playbook:
    """The cast, and what it remembers: how far scripts have come, and how often a prompt has failed."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self._calls: dict[str, int] = {}
        self._strikes: OrderedDict[str, int] = OrderedDict()

    def persona(self, model: str) -> Persona:
        """The persona of that name.

        Raises:
            Declined: there is none.
        """
        persona = self.cast.personas.get(model)
        if persona is None:
            known = ", ".join(self.cast.personas)
            raise Declined("not_found", f"no model {model!r}; there are {known}", 404, "model_not_found")
        return persona

    def knobs(self, persona: Persona, request: ChatRequest, turned: Mapping[str, object]) -> Knobs:
        """The knobs of this call: what the prompt and the caller turned, else the script's next step.

        Raises:
            Declined: a knob is unknown or set to what it cannot be.
        """
        prompt = last_user(request).text
        try:
            asked = directives(prompt, model=persona.name, stage=stage_of(request)) if "[[mock:" in prompt else {}
            knobs = knobs_of({**asked, **turned})
        except KnobError as error:
            raise Declined("invalid_request", f"mock: {error}") from None
        step = self._step(persona)
        if knobs == NO_KNOBS:
            return step
        if knobs.times is not None and not self._strikes_again(knobs.times, persona, request):
            return Knobs(times=knobs.times)
        return knobs

    def _step(self, persona: Persona) -> Knobs:
        """The script's step for this call: the persona's own script goes before the provider's."""
        key, script = (persona.name, persona.script) if persona.script else ("", self.cast.script)
        if not script:
            return NO_KNOBS
        step = self._calls.get(key, 0)
        self._calls[key] = step + 1
        return script[step] if step < len(script) else NO_KNOBS

    def _strikes_again(self, times: int, persona: Persona, request: ChatRequest) -> bool:
        key = digest(persona.name, request)
        seen = self._strikes.pop(key, 0)
        self._strikes[key] = seen + 1
        if len(self._strikes) > _MAX_REMEMBERED:
            self._strikes.popitem(last=False)
        return seen < times


def check_takes(persona: Persona, request: ChatRequest) -> None:
    """Hold a request against what a persona can see and do, and against its window.

    Raises:
        Declined: it cannot take it.
    """
    parts = [part for message in request.messages for part in message.parts]
    if not persona.images and any(isinstance(part, ImagePart) for part in parts):
        raise Declined("invalid_request", "this model takes no images")
    if not persona.documents and any(isinstance(part, DocumentPart) for part in parts):
        raise Declined("invalid_request", "this model takes no documents")
    if not persona.tools and request.tools:
        raise Declined("invalid_request", "this model calls no tools")
    form = request.generation.response_format
    schemas = {tool.name: tool.parameters for tool in request.tools} | (
        {form.name: form.schema} if form and form.schema else {}
    )
    for name, schema in schemas.items():
        if not _is_schema(schema):
            raise Declined(
                "invalid_request", f"Invalid schema for {name!r}: it is no valid JSON schema.", code="invalid_json_schema"
            )
    if request.generation.n > _MAX_CHOICES:
        raise Declined("invalid_request", f"'n' is {request.generation.n}; it wants at most {_MAX_CHOICES}")
    tokens = count_input(request)
    if tokens > persona.context_window:
        message = f"This model's maximum context length is {persona.context_window} tokens; the messages have {tokens}."
        raise Declined("context_length", message, 400, "context_length_exceeded")


def _is_schema(schema: JsonObject) -> bool:
    """Whether it is a JSON schema of a draft that is known, by its meta-schema."""
    try:
        return jsonschema_rs.meta.is_valid(dict(schema))
    except (ValueError, jsonschema_rs.ReferencingError):
        return False
