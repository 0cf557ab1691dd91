"""What commands share that record what they do, or read what was recorded."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from app.core.audit import Actor
from app.core.chat import JsonObject
from app.core.errors import InvalidRequest

if TYPE_CHECKING:
    from app.state.audit import AuditStore
    from app.state.client import StateClient
    from app.state.secrets import Secret
    from app.tools.audit.chain import Link
    from app.tools.audit.trail import AuditTrail
    from app.tools.audit.verifying import Verifier

_CHUNK: Final = 250
_LONGEST_LINE: Final = 65_536
"""Bytes; a record has some thousand at most."""

Progress = Callable[[int], None]


def operator() -> Actor:
    """Who runs the command, as this machine knows them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return Actor("cli", f"{user}@{socket.gethostname()}")


@asynccontextmanager
async def recorder(state: StateClient, secret: Secret) -> AsyncGenerator[AuditTrail]:
    """Records what a command does: nothing is done that cannot be recorded."""
    from app.config.audit import AuditConfig
    from app.observability.logs import configure_embedded
    from app.state.audit import AuditStore
    from app.tools.audit.trail import AuditTrail

    configure_embedded()
    trail = AuditTrail(AuditStore(state), secret, AuditConfig())
    trail.start()
    try:
        yield trail
    finally:
        await trail.close()


async def stored_lines(store: AuditStore, tenant: str, above: int, through: int) -> AsyncIterator[tuple[int, bytes]]:
    """The records of `tenant` with numbers over `above`, up to `through`, the oldest first."""
    while above < through:
        rows = await store.newer(tenant, above, min(_CHUNK, through - above))
        for above, line in rows:
            yield above, line
        if not rows:
            return


async def verify_store(store: AuditStore, tenant: str, verifier: Callable[[], Verifier], progress: Progress) -> Verifier:
    """Check what is kept of `tenant`, up to what it ends with now. Gives the verifier that has finished.

    The oldest records may be removed by the service meanwhile, which leaves another checkpoint: then it is checked anew.
    """
    while True:
        end = await store.end(tenant)
        held = await store.checkpoint(tenant)
        found = verifier()
        found.begin(_parsed(held) if held else None)
        async for seq, line in stored_lines(store, tenant, 0, max(end.seq, found.last.seq)):
            found.add(line, place=seq)
            progress(found.records)
        if found.finish() is None or held == await store.checkpoint(tenant):
            return found


def verify_file(path: Path, verifier: Verifier, progress: Progress) -> None:
    """Check an export, whose last line must be its signed head."""
    before: bytes | None = None
    read = 0
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            if before is not None:
                verifier.add(before)
            before = line.removesuffix(b"\n")
            read += len(line)
            progress(read)
    head: JsonObject = _parsed(before) if before else {}
    if head.get("object") != "audit.head":
        if before:
            verifier.add(before)
        verifier.cut_short()
    else:
        verifier.finish(head)


def saved_heads(paths: Sequence[Path], keys: dict[str, str]) -> dict[str, list[Link]]:
    """Signed heads that were kept, by tenant: of each file every line that is one, so that exports and logs will do.

    Raises:
        InvalidRequest: a file has none, or one that is not signed with a known key.
    """
    from app.tools.audit.verifying import link_of_head, read_head

    found: dict[str, list[Link]] = {}
    for path in paths:
        heads = list(_heads(path.read_bytes().splitlines()))
        if not heads:
            raise InvalidRequest(f"{str(path)!r} has no signed head: `quorum audit head` makes one", param="head")
        for line in heads:
            head, fault = read_head(line, keys)
            if fault is not None:
                raise InvalidRequest(f"{str(path)!r}: {fault.message}", param="head")
            found.setdefault(str(head["tenant"]), []).append(link_of_head(head))
    return found


def _heads(lines: Iterable[bytes]) -> Iterable[bytes]:
    return (line for line in lines if b'"audit.head"' in line)


def _parsed(text: bytes) -> JsonObject:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    return cast("JsonObject", found) if isinstance(found, dict) else {}
