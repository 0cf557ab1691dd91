"""The bodies of batches, and the shapes of what is answered about them."""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from app.api.schemas.messages import Body
from app.core.jobs import Priority


class BatchDefaults(Body):
    """What the lines of a batch have in common: members of `POST /v1/orchestrations` for lines that leave them out, and how
    the batch is run."""

    strategy: str | None = Field(default=None, max_length=64, description="Of lines in our own dialect that name none.")
    recipe: str | None = Field(default=None, max_length=64, description="The same.")
    priority: Priority = Field(default="normal", description="Before or after other work of the tenant.")
    webhook: str | None = Field(default=None, max_length=2_000, description="Where its end is told, signed.")


class BatchBody(BatchDefaults):
    """A batch whose lines are in its body."""

    models: list[str] = Field(default_factory=list, description="For lines in our own dialect that leave it out.")
    options: dict[str, Any] = Field(default_factory=dict, description="The same.")
    generation: dict[str, Any] = Field(default_factory=dict, description="The same.")
    metadata: dict[str, Any] = Field(default_factory=dict, description="Comes back with the batch; up to 16 KB.")
    items: list[dict[str, Any]] = Field(
        min_length=1,
        description="Each with `custom_id`, and either members of POST /v1/orchestrations, or `method`, `url` and `body`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _lines_come_with_it(cls, given: Any) -> Any:
        if isinstance(given, dict) and "input_file_id" in given:
            message = "`input_file_id` names no file here; send the lines themselves, as `items` or as application/x-ndjson"
            raise PydanticCustomError("files", message)
        return cast("Any", given)


class BatchCounts(TypedDict):
    """Lines. Of those that are `left`, `waiting` have runs of their own, which may wait for a person."""

    total: int
    succeeded: int
    failed: int
    left: int
    waiting: int


class BatchUsage(TypedDict):
    input_tokens: int
    output_tokens: int


class _BatchBase(TypedDict):
    id: str
    object: Literal["batch"]
    status: Literal["queued", "running", "completed", "cancelling", "cancelled", "retrying"]
    counts: BatchCounts
    usage: BatchUsage
    cost_usd: float | None
    retries: int
    created_at: int
    started_at: int | None
    finished_at: int | None


class BatchAnswer(_BatchBase):
    """A batch. `cost_usd` is None where a line that used tokens has no known price."""

    strategy: str | None
    recipe: str | None
    priority: Priority
    metadata: dict[str, Any]


class BatchList(TypedDict):
    object: Literal["list"]
    data: list[BatchAnswer]
    next_cursor: str | None
