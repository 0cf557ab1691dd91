"""Whether an answer is the JSON that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.chat import ChatResponse, Choice, ResponseFormat
from app.core.errors import InvalidRequest
from app.core.messages import ToolCallPart
from app.core.shapes import check_schema, misshapen, shape_fault

CITY = ResponseFormat("json_schema", schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
OBJECT = ResponseFormat("json_object")


@pytest.mark.parametrize(
    ("text", "form", "fault"),
    [
        ('{"n": 1}', CITY, None),
        ('{"n": "one"}', CITY, "/n: "),
        ("{}", CITY, "the whole: "),
        ("Sure! {}", CITY, "it is not JSON: "),
        ("[" * 100_000, CITY, "it is nested too deep"),
        ('{"n": "one"}', OBJECT, None),
        ("[1]", OBJECT, "it is not a JSON object"),
        ("anything", ResponseFormat("text"), None),
    ],
)
def test_faults_name_their_place(text: str, form: ResponseFormat, fault: str | None) -> None:
    found = shape_fault(text, form)
    assert (found is None) == (fault is None)
    assert (found or "").startswith(fault or "")


def test_a_fault_is_short_however_long_the_answer() -> None:
    assert len(shape_fault('{"n": "%s"}' % ("x" * 10_000), CITY) or "") <= 500


@pytest.mark.parametrize(
    "choice",
    [
        Choice(text="", refusal="I will not"),
        Choice(text='{"n": ', finish_reason="length"),
        Choice(text="", finish_reason="content_filter"),
        Choice(text="", tool_calls=(ToolCallPart("t", "f", "{}"),), finish_reason="tool_calls"),
    ],
)
def test_what_is_no_answer_need_not_have_the_shape(choice: Choice) -> None:
    assert misshapen(ChatResponse("r", "m", (choice,)), CITY) is None


def test_each_choice_is_looked_at() -> None:
    found = misshapen(ChatResponse("r", "m", (Choice(0, '{"n": 1}'), Choice(1, "no"))), CITY)
    assert found is not None
    assert found.text == "no"


@pytest.mark.parametrize(
    "schema", [{"type": "nothing"}, {"$ref": "http://127.0.0.1:9/schema.json"}, {"$ref": "#/$defs/missing"}, {"pattern": "("}]
)
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidRequest, match="not a JSON schema that can be checked"):
        check_schema(schema, param="schema")
