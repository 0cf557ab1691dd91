"""What every part of `quorum.yaml` is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Scope = Literal["run", "read", "feedback", "review", "tools", "admin"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Spec(BaseModel):
    """Values that do not change, and no member that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)
