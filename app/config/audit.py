"""The shape of what `quorum.yaml` says of the audit trail."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from app.config.shape import Spec


class AuditConfig(Spec):
    """Who did what, kept of each tenant as a chain that shows whoever changed it."""

    on_failure: Literal["refuse", "continue"] = Field(
        default="refuse",
        description="Where the store is away: `refuse` what is to be recorded first, or `continue` and record it later.",
    )
    keep_s: int = Field(default=31_536_000, ge=60, le=3_153_600_000, description="Records are kept for so long.")
    keep_records: int = Field(default=100_000, ge=10, le=100_000_000, description="Of a tenant, the newest.")
    log_head_s: float = Field(
        default=60.0, ge=0, le=86_400, description="How often the log gets the signed end of each chain that grew; 0: never."
    )
    public_keys: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = Field(
        default=(), description="Of the secrets before QUORUM_SECRET was changed: who signed the older records."
    )
