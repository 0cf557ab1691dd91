"""The shape of what `quorum.yaml` says of conversations."""

from __future__ import annotations

from pydantic import Field

from app.config.shape import Spec


class ConversationsConfig(Spec):
    """What is said under a `conversation_id`, kept so that the next request need not bring it along."""

    keep_s: int = Field(default=2_592_000, ge=60, le=315_360_000, description="Kept for so long since it was last used.")
    max_turns: int = Field(default=500, ge=1, le=100_000, description="The newest turns kept of a conversation.")
    max_bytes: int = Field(default=8_000_000, ge=10_000, le=100_000_000, description="The same in bytes.")
