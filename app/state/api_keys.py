"""API keys: stored as keyed hashes, never in plain text."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, cast

from pydantic import TypeAdapter, ValidationError

from app.config.spec import Name
from app.core.clock import Clock
from app.core.errors import InvalidRequest, NotFound
from app.core.principal import SCOPES
from app.state.client import StateClient, reaching_state
from app.state.keys import API_KEYS, REVOKED_API_KEYS
from app.state.secrets import KeyedHash, Secret

KEY_PREFIX: Final = "qk_"
_KEY_BYTES: Final = 32
_ID_BYTES: Final = 6

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is stored of a key. Times are seconds since the epoch; `last4` are the last characters of the key itself."""

    id: str
    name: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None
    last4: str
    hash: str
    revoked_at: float | None = None

    def usable(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


_STORED: Final = TypeAdapter(ApiKey)
_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)


class ApiKeys:
    """The stored keys. Every method raises `StateUnavailable` while Redis is away."""

    def __init__(self, state: StateClient, secret: Secret, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._hash = key_hash(secret)
        self._put = state.script("put_record")
        self._revoke = state.script("revoke_key")

    async def create(
        self, *, name: str, tenant: str, scopes: Iterable[str], expires_at: float | None = None
    ) -> tuple[ApiKey, str]:
        """Makes a key. The second member is the key itself, which is not kept and cannot be shown again.

        Raises `InvalidRequest` for a name that is none, an unknown scope, no scope, or an expiry that has passed.
        """
        now = self._clock.now()
        plain = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
        key = ApiKey(
            id=f"key_{secrets.token_hex(_ID_BYTES)}",
            name=named(name, "name"),
            tenant=named(tenant, "tenant"),
            scopes=_checked(scopes),
            created_at=now,
            expires_at=_later(expires_at, now),
            last4=plain[-4:],
            hash=self._hash(plain),
        )
        with reaching_state():
            await self._put(
                keys=[API_KEYS.records, API_KEYS.version], args=[key.id, _STORED.dump_json(key), API_KEYS.channel, "0"]
            )
        return key, plain

    async def all(self) -> tuple[ApiKey, ...]:
        """Every key ever made, revoked ones too, oldest first."""
        with reaching_state():
            async with self._state.commands.pipeline(transaction=True) as both:
                both.hgetall(API_KEYS.records)
                both.hgetall(REVOKED_API_KEYS)
                records, revoked = cast("list[dict[bytes, bytes]]", await both.execute())
        keys = (_parse(field, record, revoked.get(field)) for field, record in records.items())
        return tuple(sorted((key for key in keys if key is not None), key=lambda key: key.created_at))

    async def revoke(self, key_id: str) -> None:
        """The key opens nothing any more, on every replica within a second. Raises `NotFound`."""
        with reaching_state():
            found = await self._revoke(
                keys=[API_KEYS.records, REVOKED_API_KEYS, API_KEYS.version],
                args=[key_id, repr(self._clock.now()), API_KEYS.channel],
            )
        if not found:
            raise NotFound(f"there is no API key {key_id!r}: 'quorum keys list' shows their ids", param="id")


def key_hash(secret: Secret) -> KeyedHash:
    """The hash that API keys are stored and looked up by."""
    return secret.hasher("api-key")


def named(text: str, param: str) -> str:
    """`text`, which is to be a name. Raises `InvalidRequest` where it cannot be one."""
    try:
        return _NAME.validate_python(text)
    except ValidationError:
        raise InvalidRequest(
            f"{text!r} cannot be a {param}: 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first", param=param
        ) from None


def _checked(scopes: Iterable[str]) -> tuple[str, ...]:
    wanted = tuple(sorted(set(scopes)))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        fault = f"unknown scope {unknown[0]!r}" if unknown else "a key needs at least one scope"
        raise InvalidRequest(f"{fault}: choose from {', '.join(sorted(SCOPES))}", param="scopes")
    return wanted


def _later(expires_at: float | None, now: float) -> float | None:
    if expires_at is not None and expires_at <= now:
        raise InvalidRequest("the key would have expired already: give a time that is still to come", param="expires_at")
    return expires_at


def _parse(field: bytes, record: bytes, revoked_at: bytes | None) -> ApiKey | None:
    try:
        key = _STORED.validate_json(record)
    except ValidationError as error:
        log.error("the stored API key %s cannot be read and opens nothing: %s", field, error)  # noqa: TRY400 (no trace needed)
        return None
    return key if revoked_at is None else replace(key, revoked_at=float(revoked_at))
