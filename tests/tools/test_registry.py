from __future__ import annotations

from typing import Any

import pytest

from app.config.tools import FamilyTuning
from app.core.errors import ConfigError, NotFound
from app.core.tools import ToolCaller, ToolSpec, Version
from app.tools.describing import can_be_strict, definition, describe
from app.tools.registry import ToolRegistry


class Fixed:
    """A tool that only stands there."""

    unavailable = None

    def __init__(self, name: str, *version: int, deprecated: str | None = None, schema: object = None) -> None:
        given = schema if isinstance(schema, dict) else {"type": "object"}
        self.spec = ToolSpec(name, f"Does {name}.", given, Version(*version or (1,)), deprecated=deprecated)

    async def run(self, arguments: dict[str, object], caller: ToolCaller) -> None:
        raise NotImplementedError


def test_several_versions_stand_side_by_side_and_the_newest_is_meant() -> None:
    registry = ToolRegistry([Fixed("a", 1, 2), Fixed("a", 2), Fixed("a", 1, 10), Fixed("b")])
    found = {text: str(registry.find(text).spec.version) for text in ("a", "a@latest", "a@1", "a@1.2", "a@1.2.0", "a@2")}
    assert found == {"a": "2.0.0", "a@latest": "2.0.0", "a@1": "1.10.0", "a@1.2": "1.2.0", "a@1.2.0": "1.2.0", "a@2": "2.0.0"}
    assert [one.spec.reference for one in registry.all()] == ["a@2.0.0", "a@1.10.0", "a@1.2.0", "b@1.0.0"]


def test_a_version_that_is_not_deprecated_goes_before_one_that_is() -> None:
    registry = ToolRegistry([Fixed("a", 1), Fixed("a", 2, deprecated="use a@1")])
    assert registry.find("a").spec.version == (1, 0, 0)
    assert registry.find("a@2").spec.deprecated == "use a@1"


def test_what_is_not_there_is_named_with_what_is() -> None:
    registry = ToolRegistry([Fixed("weather", 1), Fixed("weather", 3)])
    for reference, said in [
        ("wether", "did you mean 'weather'"),
        ("weather@2", "there is 3.0.0, 1.0.0"),
        ("we ather", "no tool's name"),
    ]:
        with pytest.raises(NotFound) as missing:
            registry.find(reference)
        assert said in missing.value.message


def test_a_version_twice_or_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="two tools"):
        ToolRegistry([Fixed("a"), Fixed("a")])
    with pytest.raises(ConfigError, match="not of type object"):
        ToolRegistry([Fixed("a", schema={"type": "string"})])
    with pytest.raises(ConfigError, match="input schema is no JSON schema"):
        ToolRegistry([Fixed("a", schema={"type": "object", "properties": {"b": {"type": "no type"}}})])


def test_a_model_is_told_what_a_tool_gives_and_does_to_the_world() -> None:
    spec = ToolSpec(
        "order",
        "Orders a book.",
        {"type": "object"},
        output_schema={"type": "object", "properties": {"id": {}, "price": {}}},
        side_effect="write",
        deprecated="use order@2",
    )
    said = describe(spec)
    for words in ("Orders a book.", "Changes something", "an object with id, price", "Deprecated: use order@2"):
        assert words in said
    assert definition(spec).description == said


EXACT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "can"),
    [
        (EXACT, True),
        ({"type": "object", "properties": {}, "additionalProperties": False}, True),
        ({**EXACT, "required": []}, False),
        ({**EXACT, "additionalProperties": True}, False),
        ({**EXACT, "properties": {"a": {"type": "object", "properties": {"b": {}}}}}, False),
        ({**EXACT, "properties": {"a": {"type": "array", "items": EXACT}}}, True),
        ({**EXACT, "properties": {"a": {"type": "array", "items": {"type": "object"}}}}, False),
        ({**EXACT, "properties": {"a": {"anyOf": [EXACT, {"type": "object"}]}}}, False),
        ({**EXACT, "properties": {"a": {"enum": [{"type": "object"}]}}}, True),
    ],
)
def test_strict_is_what_a_provider_can_hold_arguments_to(schema: dict[str, Any], can: bool) -> None:
    assert can_be_strict(schema) is can


def test_a_family_may_be_told_otherwise() -> None:
    tuning = FamilyTuning(strict=True, descriptions={"order": "Buys.", "look@2": "Looks."})
    order, loose = ToolSpec("order", "Orders.", EXACT), ToolSpec("look", "Looks it up.", {"type": "object"})
    assert (definition(order, tuning).description, definition(order, tuning).strict) == ("Buys.", True)
    assert definition(order).strict is None
    assert definition(loose, tuning).strict is None
    assert "Looks it up." in (definition(loose, tuning).description or "")
