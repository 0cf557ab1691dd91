"""How a run is asked to come to its end by itself, since it may have something to put in order first."""

from __future__ import annotations

import asyncio

from app.core.errors import ErrorReport


class Stop:
    """Asked once. Who waits for it is also told when there is nothing left to stop.

    `why` is what the run has failed with then; None where it is cancelled.
    """

    def __init__(self) -> None:
        self.asked = False
        self.why: ErrorReport | None = None
        self._changed = asyncio.Event()

    def ask(self, why: ErrorReport | None = None) -> None:
        if not self.asked:
            self.asked, self.why = True, why
        self._changed.set()

    def over(self) -> None:
        """Nothing is left to stop."""
        self._changed.set()

    async def wait(self) -> None:
        """Until it is asked, or over."""
        await self._changed.wait()
