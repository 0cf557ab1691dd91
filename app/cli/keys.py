"""`quorum keys`: make, list and revoke API keys, in a running service or before it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.cli.options import DataDir, RedisUrl
from app.core.audit import SERVICE_TENANT, Act, Action, Recorder, recorded

if TYPE_CHECKING:
    from app.state.api_keys import ApiKey, ApiKeys

T = TypeVar("T")

commands = typer.Typer(
    help="Make, list and revoke API keys. A running service takes changes over within a second.", no_args_is_help=True
)

_SPANS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@commands.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for, as lists show it.")],
    tenant: Annotated[str, typer.Option(help="Who owns what is done with the key.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="run, read, feedback, review, tools or admin; may be repeated. Without it run and read."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="When it stops working: a span (90m, 12h, 30d, 8w) or a date (2030-01-31). Never without."),
    ] = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key. It is printed on stdout, this once; the service keeps only its hash."""
    expires_at = None if expires is None else _moment(expires).timestamp()
    from app.state.api_keys import named

    scopes = scope or ["run", "read"]

    async def make(keys: ApiKeys, recorder: Recorder) -> tuple[ApiKey, str]:
        async with recorded(
            recorder, _act(named(tenant, "tenant"), "key.create", named(name, "name")), {"scopes": scopes}
        ) as outcome:
            key, plain = await keys.create(name=name, tenant=tenant, scopes=scopes, expires_at=expires_at)
            outcome.details["key_id"] = key.id
        return key, plain

    key, plain = _with_keys(redis_url, data_dir, make)
    typer.echo(
        f"{key.id}: {key.name}, tenant {key.tenant}, may {', '.join(key.scopes)}, {_expiry(key)}. Keep it now:", err=True
    )
    typer.echo(plain)


@commands.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List the keys, revoked ones too. The keys themselves are not kept and cannot be shown."""
    keys = _with_keys(redis_url, data_dir, lambda stored, _: stored.all())
    if as_json:
        typer.echo(json.dumps([{name: value for name, value in asdict(key).items() if name != "hash"} for key in keys]))
        return
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column("id", no_wrap=True), "name", "tenant", "scopes", Column("ends in", no_wrap=True), "made", "state", box=None
    )
    for key in keys:
        made = f"{datetime.fromtimestamp(key.created_at, UTC):%Y-%m-%d}"
        table.add_row(key.id, key.name, key.tenant, " ".join(key.scopes), key.last4, made, _expiry(key))
    Console().print(table)


@commands.command()
def revoke(
    ids: Annotated[list[str], typer.Argument(help="The ids of the keys, as 'quorum keys list' shows them.")],
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Revoke keys, for good. Running services refuse them within a second."""

    async def each(keys: ApiKeys, recorder: Recorder) -> None:
        owners = {key.id: key.tenant for key in await keys.all()}
        for key_id in ids:
            async with recorded(recorder, _act(owners.get(key_id, SERVICE_TENANT), "key.revoke", key_id)):
                await keys.revoke(key_id)

    _with_keys(redis_url, data_dir, each)
    typer.echo(f"revoked: {', '.join(ids)}", err=True)


def _act(tenant: str, action: Action, key: str) -> Act:
    from app.cli.auditing import operator

    return Act(tenant=tenant, actor=operator(), action=action, subject_kind="key", subject=key)


def _with_keys(redis_url: Any, data_dir: Any, work: Callable[[ApiKeys, Recorder], Awaitable[T]]) -> T:
    """Does `work` on the keys of the Redis given, else of the embedded server, which is started for the moment if need be."""
    import asyncio

    from app.cli.auditing import recorder
    from app.config.settings import load_settings
    from app.core.clock import SystemClock
    from app.state.api_keys import ApiKeys
    from app.state.client import StateClient
    from app.state.embedded import EmbeddedValkey
    from app.state.secrets import load_secret

    settings = load_settings(redis_url=redis_url, data_dir=data_dir)
    secret = load_secret(settings.secret.get_secret_value() if settings.secret else None, settings.data_dir)

    async def reach(url: str) -> T:
        state = StateClient(url)
        try:
            async with recorder(state, secret) as trail:
                return await work(ApiKeys(state, secret, SystemClock()), trail)
        finally:
            await state.close()

    if settings.redis_url is not None:
        return asyncio.run(reach(settings.redis_url.get_secret_value()))
    with EmbeddedValkey(settings.data_dir) as valkey:
        return asyncio.run(reach(valkey.url))


def _moment(text: str) -> datetime:
    """The time that `text` means: a span from now, or a date, at its beginning in UTC where it says no other."""
    span = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    try:
        if span:
            return datetime.now(UTC) + timedelta(**{_SPANS[span[2]]: int(span[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is neither a span such as 30d nor a date such as 2030-01-31") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _expiry(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "never expires"
    end = datetime.fromtimestamp(key.expires_at, UTC)
    return f"{'expired' if end <= datetime.now(UTC) else 'expires'} {end:%Y-%m-%d %H:%M}"
