"""`quorum train`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import Config, DataDir, RedisUrl

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.core.audit import Recorder
    from app.jobs.trainer import Report, Trainer


def train(
    tenant: Annotated[
        str | None, typer.Option(help="Whose feedback to learn from; without it that of every tenant, each by itself.")
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="What all tenants' feedback says together, in place of a tenant's.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Learn and compare, and store nothing.")] = False,
    use: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Learn nothing, and put a version in force that was learned before.")
    ] = None,
    versions: Annotated[bool, typer.Option("--versions", help="List what was learned before.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    config: Config = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Learn from feedback: weights of panels, calibrators, who answers which prompts well.

    What was learned is put in force on every replica where it is no worse than what is, by cross-validation.
    """
    from app.cli.auditing import operator
    from app.core.audit import recorded
    from app.jobs.training import lessons_act
    from app.state.keys import SHARED

    if shared and tenant:
        raise typer.BadParameter("--shared is in place of --tenant")
    scope = SHARED if shared else tenant or "default"

    async def work(trainer: Trainer, recorder: Recorder) -> None:
        if use is not None:
            async with recorded(recorder, lessons_act(operator(), scope, use), {"scope": scope}):
                await trainer.use(scope, use)
            typer.echo(f"{use} is in force for {scope!r}", err=True)
        elif versions:
            _list(await trainer.versions(scope), as_json=as_json)
        else:
            scopes = [scope] if shared or tenant else list(await trainer.tenants())
            reports = [await _trained(trainer, one, dry=dry_run) for one in scopes]
            for report in reports:
                if report.version:
                    facts = {"scope": report.scope, "rows": report.trained.rows}
                    await recorder.record(lessons_act(operator(), report.scope, report.version), "done", facts)
            _show(reports, as_json=as_json, dry=dry_run)

    _with_trainer(config, redis_url, data_dir, work)


async def _trained(trainer: Trainer, scope: str, *, dry: bool) -> Report:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from app.orchestration.learning.training import STEPS

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{scope}: reading", total=STEPS)

        def begun(step: str) -> None:
            progress.update(task, description=f"{scope}: {step}", advance=1, refresh=True)

        return await trainer.train(scope, dry=dry, progress=begun)


def _show(reports: list[Report], *, as_json: bool, dry: bool) -> None:
    if as_json:
        typer.echo(json.dumps([report.as_json() for report in reports]))
        return
    if not reports:
        typer.echo("there is no feedback to learn from yet: POST /v1/feedback gives it", err=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("tenant", "lesson", "measure", "held out", "before", "after", "", box=None)
    for report in reports:
        for one in report.trained.compared:
            done = "would be taken" if dry else "taken"
            table.add_row(
                report.scope, one.kind, one.measure, str(one.rows), _figure(one.before), _figure(one.after),
                done if one.taken else one.reason,
            )  # fmt: skip
    Console().print(table)
    for report in reports:
        outcome = f"{report.version} is in force" if report.version else "nothing changes"
        typer.echo(f"{report.scope}: {report.trained.rows} judged runs, {outcome}", err=True)


def _list(versions: list[tuple[str, float, bool]], *, as_json: bool) -> None:
    if as_json:
        rows = [{"version": version, "made_at": at, "in_force": in_force} for version, at, in_force in versions]
        typer.echo(json.dumps(rows))
        return
    for version, at, in_force in versions:
        typer.echo(f"{version}  {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}{'  in force' if in_force else ''}")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _with_trainer(config: Any, redis_url: Any, data_dir: Any, work: Callable[[Trainer, Recorder], Awaitable[None]]) -> None:
    """Does `work` on the Redis given, else on the embedded server, which is started for the moment if need be."""
    import asyncio
    import os

    from app.cli.auditing import recorder
    from app.config.settings import load_settings
    from app.jobs.trainer import Trainer, stated_profiles
    from app.providers.environment import load_or_default
    from app.state.client import StateClient
    from app.state.embedded import EmbeddedValkey
    from app.state.secrets import load_secret

    settings = load_settings(config=config, redis_url=redis_url, data_dir=data_dir)
    secret = load_secret(settings.secret.get_secret_value() if settings.secret else None, settings.data_dir)
    spec = load_or_default(settings.config_path(), os.environ).spec

    async def reach(url: str) -> None:
        state = StateClient(url)
        try:
            async with recorder(state, secret) as trail:
                await work(Trainer(state, spec.learning, stated_profiles(spec)), trail)
        finally:
            await state.close()

    if settings.redis_url is not None:
        asyncio.run(reach(settings.redis_url.get_secret_value()))
        return
    with EmbeddedValkey(settings.data_dir) as valkey:
        asyncio.run(reach(valkey.url))
