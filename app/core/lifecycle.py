"""What a process that serves tells its application, and the other way round.

`create_app` leaves these on `app.state`, for the worker that runs it:

* `draining`: a `Draining`; readiness answers 503 once it has begun;
* `reload`: an async callable without arguments that reads the configuration anew and raises `ConfigError` where it is bad;
* `summary`: one line about what is served (providers, models), complete once the application has started.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from app.core.errors import OrchestratorError

ABORT: Final = "quorum.abort"
"""Our ASGI extension: its `call` breaks the connection at once. Closing it would wait for a reader who may never read."""


TICKET: Final = "quorum.ticket"
"""In an ASGI scope: the `Ticket` of a request with an idempotency key."""

FAILED: Final = "quorum.failed"
"""In an ASGI scope: the `ErrorReport` of a run whose stream had begun when it failed."""

REQUIRED: Final = "quorum.required"
"""In an ASGI scope: the key scope that the route has asked for."""

UNREPEATABLE: Final = "quorum.unrepeatable"
"""In an ASGI scope: true once something was begun that must not be done twice, so that the answer is kept whatever it is."""

PAUSED: Final = "quorum.paused"
"""In an ASGI scope with a ticket: the `Pause` of its run, once that waits for somebody."""

AGAIN: Final = "quorum.again"
"""In an ASGI scope with a ticket: true where its paused run cannot be gone on with now, so that it is to be tried again."""

LOGGED: Final = "quorum.logged"
"""In an ASGI scope with a ticket: awaited before its answer is stored, until the log of its run has the end."""

INTERRUPT: Final = "quorum.interrupt"
"""In an ASGI scope with a ticket: makes of an `ErrorReport` the frame that tells the reader of a stream that it breaks off."""

BODY: Final = "quorum.body"
"""In an ASGI scope: the body of the request, once it was read."""

PRINCIPAL: Final = "quorum.principal"
"""In an ASGI scope: who asks, where that is known already."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that runs apart from its connection: whoever takes it over gives its run the same id.

    `epoch` counts the processes that have run it, from 1 on; `digest` names it in the store, within its tenant. It is the
    service's `own` where nobody asks for it under that name: its run was paused, and its client has long been answered.
    """

    run_id: str
    epoch: int
    digest: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """A run waits for somebody, until `expires_at` (Unix time in seconds) at the latest. `after` is the number of the event
    that says so; readers of a `native` stream wait for those that follow it."""

    run_id: str
    expires_at: float
    after: int
    native: bool


class Draining:
    """How this process comes to its stop.

    1. `begin`: requests are still served; new ones should go elsewhere. `begun_at` is on the monotonic clock, in seconds.
    2. `end`: the time for what is under way is over. What belongs to the process is ended or released (`at_end`).
    3. `cut`: tasks of requests that are not done by then are cancelled. Whoever catches that and finds that it `was_cut`
       says so to the client, instead of breaking off.
    """

    __slots__ = ("_cut", "_leave", "begun_at")

    def __init__(self) -> None:
        self.begun_at: float | None = None
        self._leave: list[Callable[[], None]] = []
        self._cut: set[asyncio.Task[Any]] = set()

    @property
    def begun(self) -> bool:
        return self.begun_at is not None

    def begin(self) -> None:
        self.begun_at = time.monotonic()

    def at_end(self, leave: Callable[[], None]) -> None:
        """Have `leave` called by `end`, after those that were given before."""
        self._leave.append(leave)

    def end(self) -> None:
        for leave in self._leave:
            leave()

    def cut(self, requests: Iterable[asyncio.Task[Any]]) -> None:
        """Cancel `requests`, once each."""
        for task in set(requests) - self._cut:
            self._cut.add(task)
            task.cancel()

    def was_cut(self) -> bool:
        """Whether the cancellation that the present task has just caught was `cut`'s; then the task may go on."""
        task = asyncio.current_task()
        return task is not None and task in self._cut and task.uncancel() == 0


def stopping() -> OrchestratorError:
    """The failure of what was not done when the process had to stop."""
    return OrchestratorError("the service is stopping, and this was not done in time; ask again", code="draining")
