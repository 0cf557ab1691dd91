"""What a process that serves tells its application, and the other way round.

`create_app` leaves these on `app.state`, for the worker that runs it:

* `draining`: a `Draining`; readiness answers 503 once it has begun;
* `reload`: an async callable without arguments that reads the configuration anew and raises `ConfigError` where it is bad;
* `summary`: one line about what is served (providers, models), complete once the application has started.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

ABORT: Final = "quorum.abort"
"""Our ASGI extension: its `call` breaks the connection at once. Closing it would wait for a reader who may never read."""


TICKET: Final = "quorum.ticket"
"""In an ASGI scope: the `Ticket` of a request with an idempotency key."""

FAILED: Final = "quorum.failed"
"""In an ASGI scope: the `ErrorReport` of a run whose stream had begun when it failed."""

REQUIRED: Final = "quorum.required"
"""In an ASGI scope: the key scope that the route has asked for."""

PRINCIPAL: Final = "quorum.principal"
"""In an ASGI scope: who asks, where that is known already."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that runs apart from its connection: whoever takes it over gives its run the same id.

    `epoch` counts the processes that have run it, from 1 on.
    """

    run_id: str
    epoch: int


class Draining:
    """Whether this process is about to stop, and since when on the monotonic clock, in seconds.

    Requests are still served; new ones should go elsewhere.
    """

    __slots__ = ("begun_at",)

    def __init__(self) -> None:
        self.begun_at: float | None = None

    @property
    def begun(self) -> bool:
        return self.begun_at is not None

    def begin(self) -> None:
        self.begun_at = time.monotonic()
