"""The part of `quorum.yaml` about work that waits for its turn, and about telling its end."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from app.config.shape import Name, Spec
from app.core.hosts import host_fault

Hosts = tuple[Annotated[str, Field(min_length=1, max_length=253)], ...]


class JobsConfig(Spec):
    """Background runs: how many at once, and how long they may wait."""

    concurrency: int = Field(default=16, ge=1, le=1_000, description="Runs at once in each process that works.")
    embedded: bool = Field(
        default=True, description="Servers do the work where no `quorum worker` does; else it waits for one."
    )
    per_tenant: int = Field(default=64, ge=1, le=100_000, description="Runs at once of a tenant, over all processes.")
    per_provider: dict[Name, Annotated[int, Field(ge=1, le=100_000)]] = Field(
        default_factory=dict, description="Runs at once that ask a provider, over all processes; without it no bound."
    )
    max_attempts: int = Field(
        default=3, ge=1, le=100, description="So many processes may die with a job; then it is given up as failed."
    )
    max_wait_s: int = Field(
        default=86_400, ge=1, le=2_592_000, description="A job that has not begun after it is given up as failed."
    )


class BatchesConfig(Spec):
    """Many requests at once, as lines of a file."""

    max_lines: int = Field(default=100_000, ge=1, le=10_000_000)
    max_bytes: int = Field(default=500_000_000, ge=1_000, description="Of an upload. One line is bounded by `limits`.")
    concurrency: int = Field(default=16, ge=1, le=64, description="Lines at once of each part of a batch, of 64 lines.")
    keep_s: int = Field(
        default=604_800, ge=60, le=31_536_000, description="Lines and results are kept for so long after its end."
    )


class WebhooksConfig(Spec):
    """Where the ends of background runs are told, and how."""

    secret: SecretStr | None = Field(
        default=None, min_length=16, description="Signs what is told; best as ${NAME}. Without it there are no webhooks."
    )
    hosts: Hosts = Field(default=(), description="Hosts that may be told: `hooks.example.com`, `*.example.com`.")
    private_hosts: Hosts = Field(default=(), description="Of those, the ones that may be in a private network.")
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="For one delivery.")
    max_attempts: int = Field(default=8, ge=1, le=20, description="Deliveries of one end, the first included.")
    first_delay_s: float = Field(
        default=5.0, gt=0, le=3600, description="Until the second delivery; doubled each time, up to an hour, with jitter."
    )

    @field_validator("hosts", "private_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            fault = host_fault(pattern)
            if fault:
                raise ValueError(f"{pattern!r} {fault}")
        return value
