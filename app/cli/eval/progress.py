"""How far the asking has come: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINES: Final = 10
"""How many lines tell of the whole, where there is no terminal."""


class Asked:
    """Counts answers out of `total`, between entering and leaving it."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._count = self._failed = self._told = 0
        self._task: TaskID | None = None
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def count(self) -> int:
        return self._count

    def add(self, *, failed: bool) -> None:
        """One more, answered or failed."""
        self._count += 1
        self._failed += failed
        told = f"{self._failed} failed" if self._failed else ""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._count, description=f"[red]{told}[/red]" if told else "")
        elif self._count * _LINES // self._total > self._told:
            self._told = self._count * _LINES // self._total
            self._console.print(f"asked {self._count} of {self._total}{', ' if told else ''}{told}", markup=False)
