"""Recorded traffic of real providers, read from the directory `shared/wire` beside the repository.

Its README says where the recordings come from. They are read in place and never copied; where they are absent, `skip` skips.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.loopback import Answer

DIRECTORY = Path(__file__).resolve().parents[2].parent / "shared" / "wire"
skip = pytest.mark.skipif(not DIRECTORY.is_dir(), reason=f"no recorded exchanges in {DIRECTORY}")
"""For `pytestmark = skip`."""

_NOT_REPLAYED = {"content-length", "transfer-encoding", "content-encoding", "connection"}


@dataclass(frozen=True)
class Exchange:
    """One recorded request with its response. Exactly one of `body` and `sse` is there: the response's bytes.

    `request` is {method, path, headers, body}; its `body` is None where it was not recorded. `headers` are the response's.
    """

    id: str
    case: str
    provider: str
    vendor: str
    model: str
    tags: frozenset[str]
    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: bytes | None
    sse: bytes | None

    @property
    def content(self) -> bytes:
        return (self.sse if self.sse is not None else self.body) or b""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.content)

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Scenario:
    """A recorded sequence: a tool loop, or failures followed by success."""

    id: str
    kind: str
    steps: tuple[Exchange, ...]

    def __str__(self) -> str:
        return self.id


def exchanges(*providers: str) -> tuple[Exchange, ...]:
    """The single exchanges of `providers` (openai, openai_compatible, anthropic, gemini); of all without any."""
    return tuple(exchange for exchange in _singles() if not providers or exchange.provider in providers)


@cache
def scenarios() -> tuple[Scenario, ...]:
    """All sequences. The steps of one may belong to different providers."""
    found = [json.loads(path.read_bytes()) for path in sorted(DIRECTORY.glob("scenarios/*.json"))]
    return tuple(
        Scenario(
            row["id"], row["kind"], tuple(_exchange(step, f"{row['id']}.{step['index']}", row["kind"]) for step in row["steps"])
        )
        for row in found
    )


def steps(*providers: str) -> tuple[Exchange, ...]:
    """The steps of all sequences that belong to `providers`."""
    return tuple(step for scenario in scenarios() for step in scenario.steps if step.provider in providers)


def answer(exchange: Exchange, cuts: Iterable[int] = (), **more: Any) -> Answer:
    """The very bytes of `exchange`, cut at the offsets `cuts`; `more` goes to the `Answer`, as `stop_after`."""
    headers = {name: value for name, value in exchange.headers.items() if name.lower() not in _NOT_REPLAYED}
    if not any(name.lower() == "content-type" for name in headers):
        headers["content-type"] = "text/event-stream" if exchange.sse is not None else "application/json"
    return Answer(status=exchange.status, headers=headers, body=exchange.content, cuts=tuple(cuts), **more)


def random_cuts(rng: random.Random, n: int, *, pieces: int = 40) -> Sequence[int]:
    """About `pieces` offsets inside `n` bytes, in order."""
    return sorted(rng.sample(range(1, n), min(pieces, n - 1))) if n > 1 else ()


@cache
def _singles() -> tuple[Exchange, ...]:
    rows = [json.loads(path.read_bytes()) for path in sorted(DIRECTORY.glob("*.json"))]
    return tuple(_exchange(row, row["id"], row["case"]) for row in rows)


def _exchange(row: dict[str, Any], name: str, case: str) -> Exchange:
    response = row["response"]
    body, sse = response.get("body"), response.get("sse")
    return Exchange(
        id=name,
        case=case,
        provider=row["provider"] or "",
        vendor=row["vendor"] or "",
        model=row["model"] or "",
        tags=frozenset(row["tags"]),
        request=row["request"],
        status=response["status"],
        headers=response["headers"],
        body=None
        if sse is not None
        else body.encode()
        if isinstance(body, str)
        else json.dumps(body, ensure_ascii=False).encode(),
        sse=None if sse is None else sse.encode(),
    )
