"""What was learned, as JSON: versioned, bounded, checked when it is read. Coefficients only, never code. Pure.

An artefact is `{"kind", "version", "body"}`, where `version` names the content: the same lessons have the same version. One
that is of an older format, cut off or made by hand is refused with the reason, and the caller goes on with the priors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from app.core.chat import JsonObject
from app.orchestration.evidence.confidence import PRIOR_COEFFICIENTS, Calibrator, Calibrators, Vector
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.text_model import SuccessPredictor

FORMAT: Final = 1
MOST_BYTES: Final = 1_000_000
_DIGITS: Final = 6

Lesson = PanelWeights | Calibrators | SuccessPredictor


class BadArtefact(ValueError):
    """An artefact that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A lesson as it is stored. `version` is a digest of `kind`, the format and `body`."""

    kind: str
    version: str
    body: JsonObject


def artefact_of(lesson: Lesson) -> Artefact:
    """The lesson as an artefact.

    Raises:
        BadArtefact: it is larger than `MOST_BYTES` as JSON.
    """
    kind, body = _KINDS[type(lesson)][0], _KINDS[type(lesson)][1](lesson)
    size = len(_canonical(body))
    if size > MOST_BYTES:
        raise BadArtefact(f"the {kind} artefact takes {size:,} bytes, and at most {MOST_BYTES:,} are kept")
    return Artefact(kind, version_of(kind, body), body)


def lesson_of(artefact: Artefact) -> Lesson:
    """The lesson that an artefact holds.

    Raises:
        BadArtefact: the kind is unknown, the content is not what its version says, or it is not of that shape.
    """
    if artefact.version != version_of(artefact.kind, artefact.body):
        raise BadArtefact(
            f"the {artefact.kind!r} artefact {artefact.version!r} is not what its version says, or of another format"
        )
    for kind, _, read in _KINDS.values():
        if kind == artefact.kind:
            try:
                return read(artefact.body)
            except (KeyError, TypeError, ValueError, AttributeError) as fault:
                raise BadArtefact(f"the {kind} artefact {artefact.version!r} cannot be read: {fault}") from fault
    raise BadArtefact(
        f"an artefact of kind {artefact.kind!r} is not known; known are {', '.join(k for k, _, _ in _KINDS.values())}"
    )


def _canonical(body: JsonObject) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def version_of(kind: str, body: JsonObject) -> str:
    """The version that names this content in this format."""
    return hashlib.sha256(f"{kind}/{FORMAT}/".encode() + _canonical(body)).hexdigest()[:16]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _numbers(value: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): _number(one) for name, one in value.items()}


def _tables(value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {str(name): _numbers(one) for name, one in value.items()}


def _short(value: Mapping[str, float]) -> dict[str, float]:
    return {name: round(one, _DIGITS) for name, one in value.items()}


def _panel_body(lesson: Lesson) -> JsonObject:
    weights = cast("PanelWeights", lesson)
    return {
        "members": _short(weights.members),
        "none": round(weights.none, _DIGITS),
        "absent": _short(weights.absent),
        "classes": list(weights.classes),
        "bias": _short(weights.bias),
        "by_class": {member: _short(own) for member, own in weights.by_class.items()},
        "by_category": {member: _short(own) for member, own in weights.by_category.items()},
        "reliability": _short(weights.reliability),
        "learned": weights.learned,
        "together": {member: _short(own) for member, own in weights.together.items()},
    }


def _panel(body: JsonObject) -> PanelWeights:
    return PanelWeights(
        _numbers(body["members"]),
        _number(body["none"]),
        _numbers(body["absent"]),
        tuple(map(str, body["classes"])),
        _numbers(body["bias"]),
        _tables(body["by_class"]),
        _tables(body["by_category"]),
        _numbers(body["reliability"]),
        bool(body["learned"]),
        _tables(body.get("together", {})),  # which earlier versions do not have
    )


def _calibrator_body(one: Calibrator) -> JsonObject:
    covariance = [list(row) for row in one.covariance]
    return {"coefficients": list(one.coefficients), "covariance": covariance, "ceiling": one.ceiling, "rows": one.rows}


def _calibrator(body: JsonObject) -> Calibrator:
    width = len(PRIOR_COEFFICIENTS)
    covariance = tuple(_vector(row, width) for row in body["covariance"])
    if len(covariance) != width or any(covariance[at][at] < 0 for at in range(width)):
        raise ValueError(f"the covariance is no {width} by {width} matrix of one")
    return Calibrator(_vector(body["coefficients"], width), covariance, _number(body["ceiling"]), int(body["rows"]))


def _vector(values: Sequence[Any], width: int) -> Vector:
    if len(values) != width:
        raise ValueError(f"{width} coefficients are wanted, and these are {len(values)}")
    return tuple(map(_number, values))


def _calibrators_body(lesson: Lesson) -> JsonObject:
    found = cast("Calibrators", lesson)
    by_category = {name: _calibrator_body(one) for name, one in found.by_category.items()}
    return {"overall": _calibrator_body(found.overall), "by_category": by_category}


def _calibrators(body: JsonObject) -> Calibrators:
    by_category = {str(name): _calibrator(one) for name, one in body["by_category"].items()}
    return Calibrators(_calibrator(body["overall"]), by_category)


def _text_body(lesson: Lesson) -> JsonObject:
    found = cast("SuccessPredictor", lesson)
    return {
        "terms": list(found.terms),
        "idf": list(found.idf),
        "coefficients": {model: list(own) for model, own in found.coefficients.items()},
        "intercepts": dict(found.intercepts),
        "mean": _short(found.mean),
        "rows": found.rows,
        "size": list(found.size) if found.size else None,
    }


def _text(body: JsonObject) -> SuccessPredictor:
    terms = tuple(map(str, body["terms"]))
    coefficients = {str(model): tuple(map(int, own)) for model, own in body["coefficients"].items()}
    size = _size(body.get("size"))
    width = len(terms) + (size is not None)
    if len(body["idf"]) != len(terms) or any(len(own) != width for own in coefficients.values()):
        raise ValueError("there is not one coefficient a term")
    intercepts = _numbers(body["intercepts"])
    if coefficients.keys() - intercepts.keys():
        raise ValueError("a model has coefficients and no intercept")
    idf = tuple(map(_number, body["idf"]))
    return SuccessPredictor(terms, idf, coefficients, intercepts, _numbers(body["mean"]), int(body["rows"]), size)


def _size(told: Any) -> tuple[float, float] | None:
    if told is None:
        return None
    usual, spread = map(_number, told)
    if spread <= 0:
        raise ValueError("the spread of lengths is not above 0")
    return usual, spread


_KINDS: Final[dict[type, tuple[str, Callable[[Lesson], JsonObject], Callable[[JsonObject], Lesson]]]] = {
    PanelWeights: ("panel", _panel_body, _panel),
    Calibrators: ("calibrators", _calibrators_body, _calibrators),
    SuccessPredictor: ("success", _text_body, _text),
}
