"""What `quorum batch` asks a service."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from app.cli.asking.escaping import escaped
from app.cli.asking.service import CONNECT_S, SILENCE_S, refusal_of
from app.core.errors import OrchestratorError

LOOK_S: Final = 1.0
"""How often one asks how far a batch is."""
PATIENCE_S: Final = 60.0
"""How long a service may be away meanwhile, as while it is replaced."""
WIDE: Final = 400
"""Columns of text that a list may have: a narrow terminal breaks its lines, so that no id or number is cut."""


class Service:
    """A Quorum service. Every method raises `QuorumError` where it cannot be reached, or refuses."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url
        self._client = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else None,
            timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
            trust_env=urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"),  # no proxy leads to this machine
        )

    @contextmanager
    def _answer(self, method: str, path: str, **sent: Any) -> Generator[httpx.Response]:
        try:
            with self._client.stream(method, path, **sent) as answer:
                if answer.status_code >= 400:
                    raise refusal_of(self._url, answer.status_code, answer.read())
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OrchestratorError(f"{self._url} cannot be reached ({type(error).__name__}); name it with --url") from error

    def ask(self, method: str, path: str, **sent: Any) -> Any:
        """The JSON of an answer."""
        with self._answer(method, path, **sent) as answer:
            answer.read()
            return answer.json()

    def upload(self, file: Path, query: Mapping[str, str]) -> Any:
        """A new batch of the lines of `file`, which is sent as it is read."""
        with file.open("rb") as content:
            headers = {"content-type": "application/x-ndjson"}
            return self.ask("POST", "/v1/batches", content=content, headers=headers, params=query)

    def wait(self, batch_id: str) -> Any:
        """The batch, once it is over; how far it is goes to stderr."""
        console = Console(stderr=True)
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task, seen = bar.add_task("", total=None), time.monotonic()
            while True:
                try:
                    batch = self.ask("GET", f"/v1/batches/{batch_id}")
                    seen = time.monotonic()
                except OrchestratorError:
                    if time.monotonic() - seen > PATIENCE_S:
                        raise
                else:
                    counts = batch["counts"]
                    failed = f"{counts['failed']:,} failed" if counts["failed"] else ""
                    bar.update(task, total=counts["total"], completed=counts["total"] - counts["left"], description=failed)
                    if batch["status"] in ("completed", "cancelled"):
                        return batch
                time.sleep(LOOK_S)

    def results(self, batch_id: str, out: Path | None, only: str | None = None) -> None:
        """Write the results as they come; a file appears whole or not at all."""
        path, query = f"/v1/batches/{batch_id}/results", {"only": only} if only else {}
        with self._answer("GET", path, params=query) as answer:
            if out is None:
                for piece in answer.iter_bytes():
                    sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
                return
            draft = out.with_name(f".{out.name}.part")
            try:
                with draft.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
                draft.replace(out)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise


def summary(batch: Any) -> str:
    """A batch in a line."""
    counts, cost = batch["counts"], batch["cost_usd"]
    dollars = "an unknown cost" if cost is None else f"${cost:.4f}"
    return (
        f"{batch['id']} {batch['status']}: {counts['succeeded']:,} of {counts['total']:,} succeeded, "
        f"{counts['failed']:,} failed, {counts['left']:,} left; {dollars}"
    )


def print_list(batches: Sequence[Any]) -> None:
    """Batches as a table, each in a line; times are UTC."""
    numbers = ("total", "succeeded", "failed", "left", "waiting", "cost", "retries")
    columns = [Column(name, no_wrap=True) for name in ("id", "status", "runs")]
    columns += [Column(name, no_wrap=True, justify="right") for name in numbers]
    columns += [Column(name, no_wrap=True) for name in ("created", "started", "finished")]
    table = Table(*columns, box=None)
    for batch in batches:
        counts, cost = batch["counts"], batch["cost_usd"]
        table.add_row(
            batch["id"],
            batch["status"],
            escape(escaped(batch["recipe"] or batch["strategy"] or "")),
            *(f"{counts[name]:,}" for name in ("total", "succeeded", "failed", "left", "waiting")),
            "unknown" if cost is None else f"${cost:.4f}",
            str(batch["retries"]),
            *(_time(batch[name]) for name in ("created_at", "started_at", "finished_at")),
        )
    console = Console()
    console.width = max(console.width, WIDE)
    console.print(table)


def _time(at: int | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
