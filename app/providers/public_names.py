"""Names that lead to public addresses only, looked up anew for each connection, and connected to at what was found."""

from __future__ import annotations

import socket
from collections.abc import Callable

from aiohttp.abc import AbstractResolver, ResolveResult

from app.core.addresses import is_public


class PublicNames(AbstractResolver):
    """Refuses a name that leads to any address that is not public, whole, since it is not what it says.

    What it gives is connected to, so a name that is bound to another address a moment later leads nowhere (DNS rebinding).

    Parameters:
        inner: looks names up.
        refusal: makes what is raised of the name.
    """

    def __init__(self, inner: AbstractResolver, refusal: Callable[[str], Exception]) -> None:
        self._inner, self._refusal = inner, refusal

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(entry["host"]) for entry in found):
            raise self._refusal(host)
        return found

    async def close(self) -> None:
        await self._inner.close()
