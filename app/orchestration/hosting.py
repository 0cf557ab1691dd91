"""What stands between a run and the process that has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from app.core.errors import ErrorReport
from app.core.lifecycle import Draining
from app.core.step_records import StepStore
from app.orchestration.stopping import Stop


@dataclass(slots=True, eq=False)
class Hosting:
    """`draining` tells whether the process stops. `writing` is told before a tool is run that writes.

    `steps` has what is recorded of the steps of the run, where another process may go on with it, and `stop` asks it to end
    itself; `withdrawn` is why nobody may have it run any more, so that it only takes back what it did.
    """

    draining: Draining = field(default_factory=Draining)
    writing: Callable[[], None] | None = None
    steps: StepStore | None = None
    stop: Stop | None = None
    withdrawn: ErrorReport | None = None
