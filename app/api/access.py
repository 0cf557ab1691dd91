"""Who may do what: bearer keys and their scopes; without any key, this machine only."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from app.api.services import Services, services_of
from app.config.spec import Scope
from app.core.errors import Forbidden, StateUnavailable, Unauthorized
from app.core.lifecycle import PRINCIPAL, REQUIRED
from app.core.principal import LOCAL, Principal
from app.state.key_ring import KeyRing

_UNKNOWN_KEYS = "who may ask is not known while the state store is away; try again"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def authorize(request: Request, services: Services, *scopes: Scope) -> Principal:
    """Who asks, where the key has one of `scopes`; that it has none is in the audit trail. Needs the running event loop.

    Raises:
        Unauthorized: no key, or none that is valid.
        Forbidden: the key has none of them; or, without keys, a page of another site asks.
        StateUnavailable: the stored keys are not known yet.
    """
    principal = request.scope.get(PRINCIPAL) or identify(request, services)
    held = next((scope for scope in scopes if principal.allows(scope)), None)
    request.scope[REQUIRED] = held or scopes[0]
    if held is None:
        services.refusals.note(services.audit, request, principal, " or ".join(scopes))
        wanted, own = " or ".join(map(repr, scopes)), ", ".join(sorted(principal.scopes))
        raise Forbidden(f"the key {principal.name!r} lacks the scope {wanted}; it has {own}")
    return principal


def identify(request: Request, services: Services) -> Principal:
    """Who asks, whatever they may do.

    Raises:
        Unauthorized: no key, or none that is valid.
        Forbidden: without keys, a page of another site asks.
        StateUnavailable: the stored keys are not known yet.
    """
    keys = services.keys
    if keys.open:
        if not services.settings.insecure:
            _check_local(request, services.settings.allowed_hosts)
        return LOCAL
    presented = _presented(request)
    if not presented:
        if not keys.loaded:
            raise StateUnavailable(_UNKNOWN_KEYS)
        raise Unauthorized("an API key is needed: send `Authorization: Bearer <key>`")
    principal = keys.find(presented)
    if principal is None:
        if not keys.loaded:
            raise StateUnavailable(_UNKNOWN_KEYS)
        raise Unauthorized("this API key is not valid: it is unknown, expired or revoked")
    return principal


def still_allowed(request: Request, services: Services, who: Principal) -> frozenset[str]:
    """What `who`, who asked some time ago, may do now of what was allowed then.

    Raises:
        Unauthorized: the key opens nothing any more, or another tenant.
        Forbidden: it lacks the scope that the route has asked for.
        StateUnavailable: the stored keys are not known yet.
    """
    return allowed_now(services.keys, who, request.scope.get(REQUIRED))


def allowed_now(keys: KeyRing, who: Principal, required: str | None) -> frozenset[str]:
    """As `still_allowed`, of what needs the scope `required`."""
    present = LOCAL if keys.open and who.key_id == LOCAL.key_id else keys.holder(who.key_id)
    if present is None and not keys.loaded:
        raise StateUnavailable(_UNKNOWN_KEYS)
    if present is None and who.key_id == LOCAL.key_id:
        raise Unauthorized("this was asked for without a key, and the service has keys by now: ask again with one")
    if present is None or present.tenant != who.tenant:
        raise Unauthorized(
            f"the key {who.name!r}, which asked for this, is not valid any more: it is expired, revoked or removed"
        )
    if required and not present.allows(required):
        raise Forbidden(f"the key {who.name!r}, which asked for this, lacks the scope {required!r} now")
    return present.within(who.scopes)


def _presented(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is not None:
        kind, _, key = header.partition(" ")
        return key.strip() if kind.lower() == "bearer" else None
    return request.headers.get("x-api-key")


def _check_local(request: Request, allowed: tuple[str, ...]) -> None:
    """Refuse what a web page could send here by rebinding a name, or from another origin."""
    host = request.headers.get("host", "")
    if not _local(_hostname(f"//{host}"), allowed):
        raise Forbidden(f"without API keys this service answers to localhost only, not to {host[:100]!r}; create a key")
    origin = request.headers.get("origin")
    if origin is not None and not _local(_hostname(origin), allowed):
        raise Forbidden("without API keys, pages of other origins may not use this service; create a key")


def _local(name: str | None, allowed: tuple[str, ...]) -> bool:
    return name in LOOPBACK_NAMES or name in allowed


@lru_cache(maxsize=256)
def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _needs(*scopes: Scope) -> object:
    async def allowed(request: Request) -> Principal:
        return authorize(request, services_of(request), *scopes)

    return Depends(allowed)


Reader = Annotated[Principal, _needs("read")]
Runner = Annotated[Principal, _needs("run")]
Judge = Annotated[Principal, _needs("feedback")]
Reviewer = Annotated[Principal, _needs("review")]
ReaderOfReviews = Annotated[Principal, _needs("read", "review")]
"""Who reads what the tenant's runs said, and who decides on it: a key that decides need not read everything else."""
ToolUser = Annotated[Principal, _needs("tools")]
Admin = Annotated[Principal, _needs("admin")]
