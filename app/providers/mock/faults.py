"""What a caller may turn on a mock model: how fast an answer comes, and how it fails.

The same knobs can be turned in four places; the later wins:

* a script in the provider's configuration: `options: {script: [{fault: overloaded, retry_after: 1}, {}]}`, one step a call;
* the prompt (its last user message): `[[mock: fault=overloaded after=2 retry_after=1]]`;
* with the mock server, the headers `X-Mock-Fault: overloaded`, `X-Mock-After: 2`, ...;
* with the mock server, the model's name: `mock-swift?fault=overloaded&after=2` (`;` may stand for `?` and `&`).

| knob          | means |
|---------------|-------|
| `latency_ms`  | time until the first token |
| `chunk_ms`    | time between two chunks |
| `chunks`      | how many chunks the text comes in; a shorter text is repeated until it suffices |
| `fault`       | a name of `FAULTS`; `name:2` is short for `fault=name after=2` |
| `after`       | chunks that come before the fault; without it the fault strikes first |
| `retry_after` | the hint a failure carries, in seconds |
| `times`       | only the first so many calls of this prompt fail |
| `model`       | in a prompt: only for these models, separated by commas |
| `stage`       | in a prompt: `answer` (the default), or `lead` for calls whose prompt quotes other models' answers |

`_ms` may be left out, and `-` may stand for `_`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from app.core.errors import FailureClass

FaultForm = Literal["error", "cut", "reset", "garbage", "hang", "refusal", "garble"]
"""How a fault shows: an error answer (in mid-stream: an error event), an answer cut short, a broken connection, bytes that
are no JSON, silence; the last two are whole answers: a refusal, and text cut in its middle so that JSON in it is broken."""

Stage = Literal["answer", "lead"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to fail. `status` is what a vendor answers with, None where it does not answer; `code` is OpenAI's error code."""

    failure: FailureClass
    status: int | None
    message: str
    form: FaultForm = "error"
    code: str | None = None


_RATE_LIMITED = Fault("rate_limited", 429, "Rate limit reached. Please slow down.", code="rate_limit_exceeded")
_SERVER_ERROR = Fault("server_error", 500, "The server had an error while processing your request.")
_OVERLOADED = Fault("overloaded", 503, "The model is overloaded. Please try again later.")
_OVERLOADED_529 = Fault("overloaded", 529, "Overloaded")
_AUTH = Fault("auth", 401, "Incorrect API key provided.", code="invalid_api_key")
_NOT_FOUND = Fault("not_found", 404, "The model does not exist or you do not have access to it.", code="model_not_found")
_BAD_REQUEST = Fault("invalid_request", 400, "The request is not valid.", code="invalid_value")
_CUT = Fault("incomplete", 200, "the stream ended before its end", "cut")
_RESET = Fault("connection", None, "the connection was refused", "reset")

FAULTS: Mapping[str, Fault] = {
    # the failure classes
    "connection": _RESET,
    "timeout": Fault("timeout", None, "no answer in time"),
    "rate_limited": _RATE_LIMITED,
    "quota_exhausted": Fault("quota_exhausted", 429, "You exceeded your current quota.", code="insufficient_quota"),
    "request_too_large": Fault(
        "request_too_large", 429, "Request too large for this model on tokens per min.", code="rate_limit_exceeded"
    ),
    "overloaded": _OVERLOADED,
    "server_error": _SERVER_ERROR,
    "incomplete": _CUT,
    "auth": _AUTH,
    "not_found": _NOT_FOUND,
    "invalid_request": _BAD_REQUEST,
    "context_length": Fault(
        "context_length", 400, "This model's maximum context length is exceeded.", code="context_length_exceeded"
    ),
    "content_filtered": Fault("content_filtered", 400, "The prompt was filtered by the content policy.", code="content_filter"),
    "invalid_output": Fault("invalid_output", 200, "the answer does not have the shape that was asked for"),
    "breaker_open": Fault("breaker_open", None, "the circuit breaker is open"),
    "pacing": Fault("pacing", None, "too many calls wait for this model"),
    "cancelled": Fault("cancelled", None, "the call was cancelled"),
    # by HTTP status
    "400": _BAD_REQUEST,
    "401": _AUTH,
    "403": Fault("auth", 403, "Your key does not have permission for this model."),
    "404": _NOT_FOUND,
    "429": _RATE_LIMITED,
    "500": _SERVER_ERROR,
    "503": _OVERLOADED,
    "529": _OVERLOADED_529,
    # by what happens on the wire
    "hang": Fault("timeout", None, "no answer in time", "hang"),
    "reset": _RESET,
    "truncate": _CUT,
    "garbage": Fault("server_error", 200, "the answer is not JSON", "garbage"),
    "midstream-error": _OVERLOADED_529,
    # by what is in the answer
    "refusal": Fault("content_filtered", 200, "the model refused", "refusal"),
    "garble": Fault("invalid_output", 200, "the answer is broken in its middle", "garble"),
}

_AFTER_DEFAULT = {"midstream-error": 1, "truncate": 1, "incomplete": 1}
"""Faults that by their nature come in the middle."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """What is turned; None leaves it to the persona."""

    latency_ms: float | None = None
    chunk_ms: float | None = None
    chunks: int | None = None
    fault: Fault | None = None
    after: int = 0
    retry_after: float | None = None
    times: int | None = None


NO_KNOBS = Knobs()


class KnobError(ValueError):
    """A knob that does not exist, or a value it cannot take. The message says which ones there are."""


_NAMES = {name.removesuffix("_ms"): name for name in Knobs.__slots__}
_FILTERS = ("model", "stage")
_MAX_CHUNKS = 100_000


def normalise(pairs: Mapping[str, object]) -> dict[str, str]:
    """The pairs with the knobs' own names.

    Raises:
        KnobError: a name is no knob's.
    """
    turned: dict[str, str] = {}
    for key, value in pairs.items():
        name = key.strip().lower().replace("-", "_")
        known = name if name in _FILTERS else _NAMES.get(name.removesuffix("_ms"))
        if known is None:
            raise KnobError(f"no knob {key!r}; there are {', '.join((*Knobs.__slots__, *_FILTERS))}")
        turned[known] = str(value).strip()
    return turned


def knobs_of(pairs: Mapping[str, object]) -> Knobs:
    """The knobs that text pairs turn.

    Raises:
        KnobError: an unknown knob or fault, or a value that is no number where one is needed.
    """
    if not pairs:
        return NO_KNOBS
    turned = normalise(pairs)
    name, _, k = turned.get("fault", "").partition(":")
    fault = FAULTS.get(name)
    if name and fault is None:
        raise KnobError(f"no fault {name!r}; there are {', '.join(FAULTS)}")
    return Knobs(
        latency_ms=_number(turned, "latency_ms"),
        chunk_ms=_number(turned, "chunk_ms"),
        chunks=_count(turned, "chunks"),
        fault=fault,
        after=_count({"after": k} if k else turned, "after") or _AFTER_DEFAULT.get(name, 0),
        retry_after=_number(turned, "retry_after"),
        times=_count(turned, "times"),
    )


def _number(turned: Mapping[str, str], name: str) -> float | None:
    text = turned.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e7:
        raise KnobError(f"{name} is {text!r}; it wants a number from 0 to 10,000,000")
    return value


def _count(turned: Mapping[str, str], name: str) -> int | None:
    text = turned.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) > _MAX_CHUNKS:
        raise KnobError(f"{name} is {text!r}; it wants a whole number up to {_MAX_CHUNKS:,}")
    return int(text)


_DIRECTIVE = re.compile(r"\[\[mock:([^\]]{0,500})\]\]")


def directives(prompt: str, *, model: str, stage: Stage) -> dict[str, str]:
    """The knobs that `[[mock: ...]]` in a prompt turn for this model at this stage, merged in order.

    Raises:
        KnobError: as `knobs_of`, or a word that is no `name=value`.
    """
    merged: dict[str, str] = {}
    for found in _DIRECTIVE.finditer(prompt) if "[[mock:" in prompt else ():
        pairs = normalise(dict(_pairs(found[1])))
        models = pairs.pop("model", "")
        wanted = cast(Stage, pairs.pop("stage", "answer"))
        if wanted not in ("answer", "lead"):
            raise KnobError(f"stage is {wanted!r}; it wants answer or lead")
        if wanted == stage and (not models or model in models.split(",")):
            merged |= pairs
    return merged


def without_directives(prompt: str) -> str:
    """The prompt as a model should read it."""
    return _DIRECTIVE.sub("", prompt).strip() if "[[mock:" in prompt else prompt


def split_model(name: str) -> tuple[str, dict[str, str]]:
    """`mock-swift?latency_ms=200&fault=429` as the model and the knobs.

    Raises:
        KnobError: a piece is no `name=value`.
    """
    model, *pieces = re.split(r"[?&;]", name)
    return model, dict(_pairs(" ".join(pieces))) if pieces else {}


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise KnobError(f"{word!r} is no name=value")
        yield key, value
