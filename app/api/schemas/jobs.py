"""The shapes of answers about jobs, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from app.core.jobs import JobKind


class Delivery(TypedDict):
    """One delivery of a webhook. `event` is its `webhook-id`, `status` the answer's, None where `error` says why."""

    event: str
    attempt: int
    at: int
    outcome: Literal["delivered", "again", "given_up"]
    status: int | None
    error: str | None
    ms: float


class DeliveryList(TypedDict):
    object: Literal["list"]
    data: list[Delivery]
    next_cursor: str | None


class DeadLetter(TypedDict):
    """A job that was given up. `id` is that of the run that it was, or whose end was not taken."""

    id: str
    kind: JobKind
    reason: str
    attempts: int
    given_up_at: int


class DeadLetterList(TypedDict):
    object: Literal["list"]
    data: list[DeadLetter]
    next_cursor: str | None
