"""What every part of `quorum.yaml` is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """Values that do not change, and no member that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)
