"""`quorum audit`: check, export and sign the audit trail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from app.cli.options import Config, DataDir, RedisUrl
from app.core.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from app.config.settings import Settings
    from app.state.audit import AuditStore
    from app.state.secrets import Secret
    from app.tools.audit.verifying import Verifier

T = TypeVar("T")
BROKEN: Final = 3

commands = typer.Typer(
    help="Check, export and sign the audit trail: who did what, as a chain that shows whoever changed it.",
    epilog="Exit codes of verify: 0 intact, 1 it could not be checked, 2 the command was not understood, 3 it was changed.",
    no_args_is_help=True,
)

Tenant = Annotated[str, typer.Option(help="Whose trail.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to; without it to stdout.")]
PublicKeys = Annotated[
    list[str],
    typer.Option(
        "--public-key",
        metavar="HEX",
        help="A key that may have signed, as `quorum audit head` shows it; may be repeated. Without it this service's own.",
    ),
]


@commands.command()
def verify(
    tenant: Annotated[
        str | None, typer.Option(help="Whose trail; without it that of every tenant (of an export: whose it is).")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="An export to check, without the service.", exists=True, dir_okay=False)
    ] = None,
    head: Annotated[
        list[Path],
        typer.Option(help="Signed heads that were kept elsewhere (a head, an export, a log); may be repeated.", exists=True),
    ] = [],  # noqa: B006
    public_key: PublicKeys = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    config: Config = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Check that the trail is what was written, and name the first record that is not.

    What was cut off at the end can be told only by a head that was signed before: give one with --head.
    """
    from app.cli.auditing import saved_heads, verify_file, verify_store
    from app.tools.audit.verifying import Verifier

    settings, secret, keys = _keys(config, redis_url, data_dir, public_key, offline=file is not None)
    heads = saved_heads(head, keys)
    reports: list[dict[str, Any]] = []
    if file is not None:
        of_file = [link for links in heads.values() for link in links]
        if len(heads) > 1 or (tenant and heads and tenant not in heads):
            raise InvalidRequest("the heads belong to another tenant than the export", param="head")
        found = Verifier(keys, tenant=tenant or next(iter(heads), None), heads=of_file)
        with _progress("checking", file.stat().st_size) as advance:
            verify_file(file, found, advance)
        reports.append(_report(found))
    else:

        async def each(store: AuditStore, _secret: Secret) -> None:
            for name in [tenant] if tenant else sorted({*await store.tenants(), *heads}):
                fresh = partial(Verifier, keys, tenant=name, heads=heads.get(name, ()))
                with _progress(f"checking {name}", (await store.end(name)).seq) as advance:
                    reports.append(_report(await verify_store(store, name, fresh, advance)))

        _with_store(settings, secret, each)
    _tell(reports, as_json=as_json)
    if any(report["fault"] for report in reports):
        raise typer.Exit(BROKEN)


@commands.command()
def export(
    tenant: Tenant = "default",
    output: Output = None,
    since: Annotated[datetime | None, typer.Option("--from", help="From this time on, in UTC.")] = None,
    before: Annotated[datetime | None, typer.Option("--to", help="Up to this time, without it.")] = None,
    broken_too: Annotated[
        bool, typer.Option("--broken-too", help="Also of a trail that was changed, which then gets no signed head.")
    ] = False,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Write the records as JSON lines, the oldest first, and a signed head as the last one."""
    import sys

    settings, secret, _ = _keys(None, redis_url, data_dir, [], offline=False)

    async def copy(store: AuditStore, secret: Secret) -> None:
        lines = _reader(store, secret).export(tenant, since_ms=_ms(since), before_ms=_ms(before), broken_too=broken_too)
        first = await anext(lines)  # before the file is made: there may be nothing
        target = sys.stdout.buffer if output is None else output.open("wb")
        try:
            target.write(first)
            async for piece in lines:
                target.write(piece)
            target.flush()
        finally:
            await lines.aclose()
            if output is not None:
                target.close()

    _with_store(settings, secret, copy)


@commands.command()
def head(tenant: Tenant = "default", output: Output = None, redis_url: RedisUrl = None, data_dir: DataDir = None) -> None:
    """Print the signed end of the trail, to be kept elsewhere; also the public key that checks signatures."""
    settings, secret, _ = _keys(None, redis_url, data_dir, [], offline=False)

    async def read(store: AuditStore, secret: Secret) -> dict[str, Any]:
        return await _reader(store, secret).head(tenant)

    line = json.dumps(_with_store(settings, secret, read)) + "\n"
    if output is None:
        typer.echo(line, nl=False)
    else:
        output.write_text(line)


def _keys(
    config: Any, redis_url: Any, data_dir: Any, given: list[str], *, offline: bool
) -> tuple[Settings, Secret | None, dict[str, str]]:
    """The settings, the secret, and the public keys that may have signed. Offline a secret is not made where there is none."""
    import os

    from app.config.settings import load_settings
    from app.providers.environment import load_or_default
    from app.state.secrets import FILE_NAME, load_secret
    from app.tools.audit.chain import USE, SigningKey, public_keys

    settings = load_settings(config=config, redis_url=redis_url, data_dir=data_dir)
    if offline and given:
        return settings, None, public_keys(given)
    if offline and settings.secret is None and not (settings.data_dir / FILE_NAME).exists():
        raise ConfigError("there is no secret here that could have signed: give --public-key, or QUORUM_SECRET, or --data-dir")
    secret = load_secret(settings.secret.get_secret_value() if settings.secret else None, settings.data_dir)
    earlier = () if offline else load_or_default(settings.config_path(), os.environ).spec.audit.public_keys
    return settings, secret, public_keys([SigningKey(secret.key_for(USE)).public, *earlier, *given])


def _reader(store: AuditStore, secret: Secret) -> Any:
    from app.core.clock import SystemClock
    from app.tools.audit.chain import USE, SigningKey
    from app.tools.audit.reading import TrailReader

    return TrailReader(store, SigningKey(secret.key_for(USE)), SystemClock())


def _with_store(settings: Settings, secret: Secret | None, work: Callable[[AuditStore, Secret], Awaitable[T]]) -> T:
    """Does `work` on the Redis given, else on the embedded server, which is started for the moment if need be."""
    from app.state.audit import AuditStore
    from app.state.client import StateClient
    from app.state.embedded import EmbeddedValkey

    if secret is None:
        raise ConfigError("the service's secret is needed for that")

    async def reach(url: str) -> T:
        state = StateClient(url)
        try:
            return await work(AuditStore(state), secret)
        finally:
            await state.close()

    if settings.redis_url is not None:
        return asyncio.run(reach(settings.redis_url.get_secret_value()))
    with EmbeddedValkey(settings.data_dir) as valkey:
        return asyncio.run(reach(valkey.url))


@contextmanager
def _progress(what: str, total: int) -> Generator[Callable[[int], None]]:
    """A bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _report(verifier: Verifier) -> dict[str, Any]:
    fault = verifier.fault
    return {
        "tenant": verifier.tenant,
        "records": verifier.records,
        "first": verifier.first,
        "last": verifier.last.seq,
        "last_hash": verifier.last.hash,
        "unfinished": verifier.unfinished,
        "fault": {"kind": fault.kind, "record": fault.seq, "message": fault.message} if fault else None,
    }


def _tell(reports: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(reports))
        return
    if not reports:
        typer.echo("nothing was ever recorded")
    for report in reports:
        fault, name = report["fault"], report["tenant"]
        if fault:
            typer.echo(f"{name}: BROKEN at record {fault['record']} ({fault['kind']}): {fault['message']}")
        elif not report["records"]:
            typer.echo(f"{name}: no records")
        else:
            typer.echo(f"{name}: intact, records {report['first']} to {report['last']}, the last is {report['last_hash']}")
        if report["unfinished"]:
            some = ", ".join(str(seq) for seq in report["unfinished"][:10])
            typer.echo(f"{name}: {len(report['unfinished'])} begun without an outcome: {some}")


def _ms(moment: datetime | None) -> int | None:
    from datetime import UTC

    return None if moment is None else int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
