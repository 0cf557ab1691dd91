"""What a process that serves tells its application, and the other way round.

`create_app` leaves these on `app.state`, for the worker that runs it:

* `draining`: a `Draining`; readiness answers 503 once it has begun;
* `reload`: an async callable without arguments that reads the configuration anew and raises `ConfigError` where it is bad;
* `summary`: one line about what is served (providers, models), complete once the application has started.
"""

from __future__ import annotations

import time
from typing import Final

ABORT: Final = "quorum.abort"
"""Our ASGI extension: its `call` breaks the connection at once. Closing it would wait for a reader who may never read."""


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
