"""The audit trail as those see it who act: what is recorded of an act, and the Protocol that records it.

An act that has an effect is recorded twice: `begun` before the effect and its outcome after it, so that a process which dies in
between leaves a trace. `recorded` does both around a block. What has no effect of its own (a permission that was given or
refused, an approval that was asked for) is recorded once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from app.core.errors import QuorumError, StateUnavailable
from app.core.principal import DEFAULT_TENANT, Principal

Action = Literal[
    "tool.permission",
    "route.permission",
    "tool.execute",
    "approval.request",
    "approval.decide",
    "review.decide",
    "key.create",
    "key.revoke",
    "config.reload",
    "provider.register",
    "provider.remove",
    "workflow.store",
    "workflow.remove",
    "breaker.reset",
    "lessons.use",
    "run.delete",
    "run.signal",
    "conversation.delete",
    "audit.cut_back",
]
"""What was done. A new one gets a row in docs/audit.md."""

Decision = Literal[
    "begun",
    "done",
    "failed",
    "uncertain",
    "refused",
    "allowed",
    "denied",
    "needs_approval",
    "requested",
    "approved",
    "edited",
    "expired",
    "withdrawn",
    "found",
]
"""How it stands: `begun` is followed by `done`, `failed` (no effect), `uncertain` (perhaps one) or `refused` (not tried)."""

ActorKind = Literal["key", "cli", "service"]
SERVICE_TENANT: Final = DEFAULT_TENANT
"""In whose chain that is recorded what belongs to no tenant."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an API key, somebody at the command line of a machine, or the service. `address` is the network peer's."""

    kind: ActorKind
    id: str
    name: str = ""
    address: str | None = None


SERVICE: Final = Actor("service", "service")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody does to something. `subject_kind` and `subject` name that, as `tool` and `mail.send@1`."""

    tenant: str
    actor: Actor
    action: Action
    subject_kind: str
    subject: str
    run_id: str | None = None
    request_id: str | None = None
    trace_id: str | None = None


@dataclass(slots=True)
class Outcome:
    """What is to be said of an act when it has ended; to be filled in while it goes on."""

    decision: Decision = "done"
    details: dict[str, Any] = field(default_factory=dict[str, Any])


class Recorder(Protocol):
    """Records acts in the chain of their tenant. Details are names, numbers, digests, cut to a bound: no prompts, no secrets.

    While the store is away `record` and `begin` raise `StateUnavailable` or, where `audit.on_failure` is `continue`, keep what
    they have for later. `end` and `note` always do the latter: what has happened has happened.
    """

    async def record(self, act: Act, decision: Decision, details: Mapping[str, Any] = ..., *, operation: str = ...) -> None:
        """Record something once; it is in the chain when this returns."""
        ...

    async def begin(self, act: Act, details: Mapping[str, Any] = ...) -> str:
        """Record that `act` is about to be tried. Gives the operation that its `end` names."""
        ...

    async def end(self, act: Act, operation: str, decision: Decision, details: Mapping[str, Any] = ...) -> None:
        """Record what became of what was begun."""
        ...

    def note(self, act: Act, decision: Decision, details: Mapping[str, Any] = ..., *, operation: str = ...) -> None:
        """Record something soon, without waiting: for what happens often and has no effect."""
        ...

    def digest(self, value: Any) -> str:
        """What stands for a JSON value in details: equal for equal values, and nobody without the secret can try guesses."""
        ...


@asynccontextmanager
async def recorded(recorder: Recorder, act: Act, details: Mapping[str, Any] | None = None) -> AsyncGenerator[Outcome]:
    """Record `act` around a block: `begun` before it, and its outcome, which the block may fill in, after it.

    An error of ours is `failed` with its code; a store that went away meanwhile, and anything else that ends the block, a
    cancellation too, is `uncertain`.

    Raises:
        StateUnavailable: it cannot be recorded, and so must not be done.
    """
    operation = await recorder.begin(act, details or {})
    outcome = Outcome()
    try:
        yield outcome
    except StateUnavailable as error:  # the command may still arrive
        await recorder.end(act, operation, "uncertain", {**outcome.details, "error": error.code})
        raise
    except QuorumError as error:
        await recorder.end(act, operation, "failed", {**outcome.details, "error": error.code})
        raise
    except BaseException as error:
        recorder.note(act, "uncertain", {**outcome.details, "error": type(error).__name__}, operation=operation)
        raise
    await recorder.end(act, operation, outcome.decision, outcome.details)


def actor_of(who: Principal, address: str | None = None) -> Actor:
    """The owner of a key as an actor."""
    return Actor("key", who.key_id, who.name, address)
