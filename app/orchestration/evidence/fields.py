"""The consensus of JSON objects, member by member, however deep. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from app.orchestration.evidence.labels import normalised
from app.orchestration.evidence.numbers import number_label

ABSENT: Final = object()
"""Stands for a member that an object does not have."""
MOST_DEPTH: Final = 32
_ABSENT_LABEL: Final = "absent"


@dataclass(frozen=True, slots=True)
class Field:
    """One leaf: its path (`address.city`, `items[0].price`), the value that won, the share of the votes that is for it, and the
    values of the objects, in their order and None where one has none, as the minority report needs them. `labels` are these
    values as they were counted, `winner` the one that won."""

    path: str
    value: Any
    agreement: float
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    winner: str

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


def field_consensus(
    values: Sequence[Any], weights: Sequence[float] | None = None, votes: Sequence[float] | None = None
) -> FieldConsensus:
    """The consensus of JSON values, at least one.

    Objects are joined member by member; a member is in the result when more weight has it than lacks it. Lists are joined place
    by place, as long as most say. Values of different kinds, and everything else, are voted on whole: texts by their normalised
    label, numbers by value. Ties go to the value that came first.

    Args:
        values: The answers.
        weights: What each weighs; alike where None, or where they are all nothing.
        votes: What each counts for the agreement, which is of votes and not of weights; alike where None.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a consensus of fields needs at least one value")
    alike = [1.0] * len(values)
    counted = list(weights) if weights is not None and sum(weights) > 0 else alike
    fields: list[Field] = []
    value = _joined("", list(values), _Counts(counted, list(votes or alike)), fields, 0)
    return FieldConsensus(None if value is ABSENT else value, tuple(fields))


@dataclass(frozen=True, slots=True)
class _Counts:
    weights: list[float]
    votes: list[float]


def fields_settled(values: Sequence[Any], settled: Callable[[Sequence[str | None]], str | None]) -> bool:
    """Whether nothing that is still to come changes the consensus of `values`.

    Args:
        values: The answers so far.
        settled: Which label has won a vote, given what each answer says in it (None: nothing), whatever else will be said; None
            where that is open.
    """
    known: dict[tuple[str | None, ...], str | None] = {}

    def of(labels: Sequence[str | None]) -> str | None:
        key = tuple(labels)
        if key not in known:  # in most fields of an object the same answers agree
            known[key] = settled(key)
        return known[key]

    return bool(values) and _settled(list(values), of, 0) is not None


def _settled(values: list[Any], settled: Callable[[Sequence[str | None]], str | None], depth: int) -> str | None:
    """What kind of value has won here, or its label; None where it, or anything in it, is open."""
    kind = settled([_kind(value) for value in values])
    if kind is None or depth >= MOST_DEPTH or kind not in ("object", "list"):
        return settled([_label(value) for value in values]) if kind is not None else None
    inner: list[list[Any]]
    if kind == "object":
        objects: list[Mapping[str, Any]] = [value if isinstance(value, Mapping) else {} for value in values]
        inner = [[one.get(name, ABSENT) for one in objects] for name in dict.fromkeys(name for one in objects for name in one)]
        return kind if all(_settled(said, settled, depth + 1) is not None for said in inner) else None
    length = settled([str(len(cast("list[Any]", value))) if isinstance(value, list) else None for value in values])
    if length is None:
        return None
    lists: list[list[Any]] = [value if isinstance(value, list) else [] for value in values]
    inner = [[one[at] if at < len(one) else ABSENT for one in lists] for at in range(int(length))]
    return kind if all(_settled(said, settled, depth + 1) not in (None, _ABSENT_LABEL) for said in inner) else None


def _joined(path: str, values: list[Any], counts: _Counts, fields: list[Field], depth: int) -> Any:
    kind = _heaviest([_kind(value) for value in values], counts.weights)
    of_kind = [place for place, value in enumerate(values) if _kind(value) == kind]
    if depth < MOST_DEPTH and kind == "object":
        return _objects(path, values, of_kind, counts, fields, depth)
    if depth < MOST_DEPTH and kind == "list":
        return _lists(path, values, of_kind, counts, fields, depth)
    labels = tuple(_label(value) for value in values)
    winner = _heaviest(labels, counts.weights)
    share = sum(vote for label, vote in zip(labels, counts.votes, strict=True) if label == winner) / sum(counts.votes)
    value = values[labels.index(winner)]
    said = tuple(None if one is ABSENT else one for one in values)
    fields.append(Field(path or "$", None if value is ABSENT else value, share, said, labels, winner))
    return value


def _objects(
    path: str, values: list[Any], of_kind: list[int], counts: _Counts, fields: list[Field], depth: int
) -> dict[str, Any]:
    objects: list[Mapping[str, Any]] = [value if place in of_kind else {} for place, value in enumerate(values)]
    names = dict.fromkeys(name for one in objects for name in one)
    result: dict[str, Any] = {}
    for name in names:
        inner = f"{path}.{name}" if path else name
        value = _joined(inner, [one.get(name, ABSENT) for one in objects], counts, fields, depth + 1)
        if value is not ABSENT:
            result[name] = value
    return result


def _lists(path: str, values: list[Any], of_kind: list[int], counts: _Counts, fields: list[Field], depth: int) -> list[Any]:
    lists = [cast("list[Any]", value) if place in of_kind else [] for place, value in enumerate(values)]
    own = [counts.weights[place] if place in of_kind else 0.0 for place in range(len(values))]
    length = _heaviest([len(one) for one in lists], own)
    result: list[Any] = []
    for at in range(max(map(len, lists))):
        said = [one[at] if at < len(one) else ABSENT for one in lists]
        value = _joined(f"{path}[{at}]", said, counts, fields, depth + 1)
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
        return _ABSENT_LABEL
    if value is None or isinstance(value, bool):
        return f"literal {value}"
    if isinstance(value, int):
        return f"said {value}"  # as a text that says the number, and to the last digit: it may be an id
    if isinstance(value, float):
        return f"said {number_label(value)}"
    return f"said {normalised(value)}" if isinstance(value, str) else f"json {value!r}"
