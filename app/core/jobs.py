"""Work that waits for its turn: what a job is, and a request that somebody else is to run later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import orjson

from app.core.principal import Principal
from app.core.runs import RunRequest

Priority = Literal["high", "normal", "low"]
"""Orders the jobs of one tenant; between tenants it gives nobody more."""
JobKind = Literal["run", "batch", "webhook"]


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done by any worker.

    Parameters:
        id: also names what is to be done.
        slots: runs at once that it has use for.
        weight: how much of its tenant's turn it takes.
        providers: whom it asks, as far as that is known.
    """

    id: str
    tenant: str
    kind: JobKind
    priority: Priority = "normal"
    slots: int = 1
    weight: int = 1
    providers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """A request that was accepted and is run later, as whoever runs it needs it.

    Parameters:
        path: of the endpoint whose body this is.
        deadline: Unix time in seconds.
        webhook: where its end is told.
        keyed: the digest of the request with an idempotency key that it belongs to.
        part: the id of the job that waits for it: the part of a batch whose line it is.
    """

    path: str
    body: bytes
    who: Principal
    request_id: str = ""
    traceparent: str | None = None
    deadline: float | None = None
    address: str | None = None
    webhook: str | None = None
    keyed: str = ""
    part: str = ""

    def packed(self) -> str:
        who = self.who
        return orjson.dumps(
            {
                "path": self.path,
                "body": self.body.decode(),
                "who": [who.tenant, who.key_id, who.name, sorted(who.scopes)],
                "request_id": self.request_id,
                "traceparent": self.traceparent,
                "deadline": self.deadline,
                "address": self.address,
                "webhook": self.webhook,
                "keyed": self.keyed,
                "part": self.part,
            }
        ).decode()


def unpacked(text: str) -> QueuedRequest:
    """The inverse of `QueuedRequest.packed`."""
    held = orjson.loads(text)
    tenant, key_id, name, scopes = held.pop("who")
    body = held.pop("body").encode()
    return QueuedRequest(body=body, who=Principal(tenant, key_id, name, frozenset(scopes)), **held)


class Reader(Protocol):
    """Makes of a queued request what is to be run."""

    def __call__(self, queued: QueuedRequest, /, *, withdrawn: bool = False) -> RunRequest:
        """With `withdrawn` it is only to take back what it did, by what the key allowed that has asked.

        Raises:
            QuorumError: it is impossible by now.
            Unauthorized, Forbidden: whoever asked may not have it run any more.
        """
        ...
