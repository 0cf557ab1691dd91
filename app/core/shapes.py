"""Whether an answer has the shape that was asked for: JSON, or JSON that fits a schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, cast

import jsonschema_rs
import orjson

from app.core.chat import ChatResponse, Choice, JsonObject, ResponseFormat
from app.core.errors import InvalidRequest

_KEPT: Final = 256
"""Compiled schemas that are kept."""
_LONGEST_FAULT: Final = 500
"""Characters: a fault quotes the value, which may be the whole answer."""


class _Validator(Protocol):
    def iter_errors(self, instance: Any) -> Any: ...


def check_schema(schema: JsonObject, *, param: str) -> None:
    """Raises InvalidRequest: `schema` is no JSON schema, or refers to something outside itself."""
    try:
        _compiled(orjson.dumps(schema, option=orjson.OPT_NON_STR_KEYS))
    except (ValueError, TypeError, jsonschema_rs.ReferencingError) as error:
        message = str(error).partition("\n")[0][:_LONGEST_FAULT]
        raise InvalidRequest(f"{param} is not a JSON schema that can be checked: {message}", param=param) from error


def shape_fault(text: str, form: ResponseFormat) -> str | None:
    """What is wrong with `text` as an answer of the shape `form`; None where it fits."""
    if form.type == "text":
        return None
    try:
        value = json.loads(text)
    except RecursionError:
        return "it is nested too deep to be read"
    except ValueError as error:
        return f"it is not JSON: {error}"
    if form.type == "json_object":
        return None if isinstance(value, dict) else "it is not a JSON object"
    validator = cast("_Validator", _compiled(orjson.dumps(form.schema, option=orjson.OPT_NON_STR_KEYS)))
    fault = next(iter(validator.iter_errors(value)), None)
    if fault is None:
        return None
    place = "".join(f"/{step}" for step in fault.instance_path)
    return f"{place or 'the whole'}: {fault.message}"[:_LONGEST_FAULT]


@dataclass(frozen=True, slots=True)
class Misshapen:
    """An answer that has not the shape that was asked for, and why not."""

    text: str
    fault: str


def misshapen(response: ChatResponse, form: ResponseFormat) -> Misshapen | None:
    """The first answer of `response` that should have the shape and has not.

    A refusal, tool calls and an answer that was cut at its length say something else than the answer, and are not looked at.
    """
    for choice in response.choices:
        fault = shape_fault(choice.text, form) if _is_answer(choice) else None
        if fault is not None:
            return Misshapen(choice.text, fault)
    return None


def _is_answer(choice: Choice) -> bool:
    return choice.finish_reason == "stop" and not choice.refusal and not choice.tool_calls


@lru_cache(maxsize=_KEPT)
def _compiled(schema: bytes) -> object:
    return jsonschema_rs.validator_for(orjson.loads(schema), offline=True)
