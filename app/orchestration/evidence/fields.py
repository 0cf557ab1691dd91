"""The consensus of JSON objects, member by member, however deep. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from app.orchestration.evidence.labels import normalised
from app.orchestration.evidence.numbers import number_label

ABSENT: Final = object()
"""Stands for a member that an object does not have."""
MOST_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Field:
    """One leaf: its path (`address.city`, `items[0].price`), the value that won, the share of the weight that is for it, and
    the values of the objects, in their order and None where one has none, as the minority report needs them."""

    path: str
    value: Any
    agreement: float
    values: tuple[Any, ...]

    @property
    def disputed(self) -> bool:
        return self.agreement < 1 - 1e-9


@dataclass(frozen=True, slots=True)
class FieldConsensus:
    """The object that the fields' winners make. `agreement` is the mean over the fields."""

    value: Any
    fields: tuple[Field, ...]

    @property
    def agreement(self) -> float:
        return sum(field.agreement for field in self.fields) / len(self.fields) if self.fields else 1.0

    @property
    def disagreements(self) -> tuple[dict[str, Any], ...]:
        """`{field, values}` of each field that not all say alike."""
        return tuple({"field": field.path, "values": list(field.values)} for field in self.fields if field.disputed)


def field_consensus(values: Sequence[Any], weights: Sequence[float] | None = None) -> FieldConsensus:
    """The consensus of JSON values, at least one.

    Objects are joined member by member; a member is in the result when more weight has it than lacks it. Lists are joined place
    by place, as long as most say. Values of different kinds, and everything else, are voted on whole: texts by their normalised
    label, numbers by value. Ties go to the value that came first.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a consensus of fields needs at least one value")
    counted = list(weights) if weights is not None else [1.0] * len(values)
    if sum(counted) <= 0:
        counted = [1.0] * len(values)
    fields: list[Field] = []
    value = _joined("", list(values), counted, fields, 0)
    return FieldConsensus(None if value is ABSENT else value, tuple(fields))


def _joined(path: str, values: list[Any], weights: list[float], fields: list[Field], depth: int) -> Any:
    kind = _heaviest([_kind(value) for value in values], weights)
    of_kind = [place for place, value in enumerate(values) if _kind(value) == kind]
    if depth < MOST_DEPTH and kind == "object":
        return _objects(path, values, of_kind, weights, fields, depth)
    if depth < MOST_DEPTH and kind == "list":
        return _lists(path, values, of_kind, weights, fields, depth)
    labels = [_label(value) for value in values]
    winner = _heaviest(labels, weights)
    share = sum(weight for label, weight in zip(labels, weights, strict=True) if label == winner) / sum(weights)
    value = values[labels.index(winner)]
    said = tuple(None if one is ABSENT else one for one in values)
    fields.append(Field(path or "$", None if value is ABSENT else value, share, said))
    return value


def _objects(
    path: str, values: list[Any], of_kind: list[int], weights: list[float], fields: list[Field], depth: int
) -> dict[str, Any]:
    objects: list[Mapping[str, Any]] = [value if place in of_kind else {} for place, value in enumerate(values)]
    names = dict.fromkeys(name for one in objects for name in one)
    result: dict[str, Any] = {}
    for name in names:
        inner = f"{path}.{name}" if path else name
        value = _joined(inner, [one.get(name, ABSENT) for one in objects], weights, fields, depth + 1)
        if value is not ABSENT:
            result[name] = value
    return result


def _lists(
    path: str, values: list[Any], of_kind: list[int], weights: list[float], fields: list[Field], depth: int
) -> list[Any]:
    lists = [cast("list[Any]", value) if place in of_kind else [] for place, value in enumerate(values)]
    own = [weights[place] if place in of_kind else 0.0 for place in range(len(values))]
    length = _heaviest([len(one) for one in lists], own)
    result: list[Any] = []
    for at in range(max(map(len, lists))):
        said = [one[at] if at < len(one) else ABSENT for one in lists]
        value = _joined(f"{path}[{at}]", said, weights, fields, depth + 1)
        if at < length:
            result.append(next(one for one in said if one is not ABSENT) if value is ABSENT else value)
    return result


def _heaviest(keys: Sequence[Any], weights: Sequence[float]) -> Any:
    heard: dict[Any, float] = {}
    for key, weight in zip(keys, weights, strict=True):
        heard[key] = heard.get(key, 0.0) + weight
    return max(heard, key=lambda key: round(heard[key], 9))


def _kind(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    if isinstance(value, Mapping):
        return "object"
    return "list" if isinstance(value, list) else "leaf"


def json_label(value: Any) -> str:
    """One text for JSON values that a consensus takes as one: members in any order, texts by their normalised label, numbers by
    value."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return "{" + ", ".join(f"{name!r}: {json_label(members[name])}" for name in sorted(members)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(json_label, cast("list[Any]", value))) + "]"
    return repr(_label(value))


def _label(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    if value is None or isinstance(value, bool):
        return f"literal {value}"
    if isinstance(value, int):
        return f"said {value}"  # as a text that says the number, and to the last digit: it may be an id
    if isinstance(value, float):
        return f"said {number_label(value)}"
    return f"said {normalised(value)}" if isinstance(value, str) else f"json {value!r}"
