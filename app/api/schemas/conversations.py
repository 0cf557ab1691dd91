"""What is told of conversations."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from app.core.runs import RunStatus


class ConversationTurn(TypedDict):
    """What one run has added: the new messages of its request and what was said in answer, with the calls of tools and their
    results, in OpenAI's shape. Turns are numbered from 1; `model` is the one that the answer came from."""

    number: int
    run_id: str
    strategy: str
    recipe: str | None
    status: RunStatus
    model: str | None
    created_at: int
    messages: list[dict[str, Any]]


class Conversation(TypedDict):
    """A conversation and some of its turns, the oldest first.

    `turns` is how many it ever had, `dropped` how many of the oldest are not kept any more, `bytes` what the others take.
    `system` is what the system says in it. Unless it is used it is gone at `expires_at`.
    """

    id: str
    object: Literal["conversation"]
    created_at: int
    used_at: int
    expires_at: int
    turns: int
    dropped: int
    bytes: int
    system: list[dict[str, Any]]
    data: list[ConversationTurn]
    next_cursor: str | None
