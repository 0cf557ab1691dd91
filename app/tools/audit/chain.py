"""Records and how they are chained and signed. Pure.

A record is one line of canonical JSON: members sorted, no blanks, whole numbers and texts only (so canonical in the sense of
RFC 8785 too). Its `hash` is the SHA-256 of all members but `hash` and `signature`; one of them is `previous`, the hash of the
record before it, zeros for the first. Its `signature` is Ed25519 (RFC 8032) over the hash, with a key that is derived from the
service's secret, so that whoever can write to the store can still not make a record, and anybody with the public key can check
one. A signature stands for its record and, through the hashes, for all before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.core.chat import JsonObject
from app.core.errors import InvalidRequest

ORIGIN: Final = "0" * 64
"""`previous` of a chain's first record."""
USE: Final = "audit"
"""The name under which the signing key is derived from the secret."""
_UNHASHED: Final = frozenset({"hash", "signature"})
Kind = Literal["audit.record", "audit.checkpoint", "audit.head"]
_KINDS: Final = frozenset({"audit.record", "audit.checkpoint", "audit.head"})


@dataclass(frozen=True, slots=True)
class Link:
    """A record as the next one sees it: its number, its hash, and its time in ms since the epoch."""

    seq: int = 0
    hash: str = ORIGIN
    time_ms: int = 0


class SigningKey:
    """Signs with the key whose seed is 32 bytes. `public` is its public half: 64 hexadecimal digits; `id` is its name."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw().hex()
        self.id = key_id(self.public)

    def sealed(self, kind: Kind, members: Mapping[str, Any]) -> dict[str, Any]:
        """`members` as a signed object of a kind."""
        found: dict[str, Any] = {**members, "object": kind, "key": self.id, "v": 1}
        found["hash"] = hash_of(found)
        found["signature"] = self._key.sign(_signed(kind, found["hash"])).hex()
        return found


def canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def hash_of(members: Mapping[str, Any]) -> str:
    """The hash of a record, checkpoint or head, whatever it says of its own hash."""
    return hashlib.sha256(canonical({name: members[name] for name in members if name not in _UNHASHED})).hexdigest()


def key_id(public: str) -> str:
    """What records name a public key by: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(bytes.fromhex(public)).hexdigest()[:16]


def chained(key: SigningKey, after: Link, members: Mapping[str, Any], time_ms: int) -> tuple[bytes, Link]:
    """The record with `members` that follows `after`, as a line, and as the next one sees it."""
    found = key.sealed("audit.record", {**members, "seq": after.seq + 1, "previous": after.hash, "time_ms": time_ms})
    return canonical(found), Link(after.seq + 1, found["hash"], time_ms)


def checkpoint(key: SigningKey, tenant: str, last: Link) -> bytes:
    """What stands for the records up to `last`, which are not kept any more."""
    members = {"tenant": tenant, "seq": last.seq, "last_hash": last.hash, "time_ms": last.time_ms}
    return canonical(key.sealed("audit.checkpoint", members))


def head(key: SigningKey, tenant: str, last: Link, *, at_ms: int, first_seq: int | None = None) -> dict[str, Any]:
    """What says, signed, that `last` was the end of the chain at `at_ms`; of an export, also where that begins."""
    members = {"tenant": tenant, "seq": last.seq, "last_hash": last.hash, "time_ms": last.time_ms, "signed_at_ms": at_ms}
    return key.sealed("audit.head", {**members, "first_seq": first_seq, "public_key": key.public})


def public_keys(known: Iterable[str]) -> dict[str, str]:
    """Public keys by their ids.

    Raises:
        InvalidRequest: one is none.
    """
    found: dict[str, str] = {}
    for public in known:
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        except ValueError:
            message = f"{public[:80]!r} is no public key: 64 hexadecimal digits, as `quorum audit head` shows it"
            raise InvalidRequest(message, param="public_key") from None
        found[key_id(public)] = public
    return found


def signature_holds(members: JsonObject, public: str) -> bool:
    """Whether the signature of a record, checkpoint or head, is that of the key over its `hash` and its kind."""
    kind, said, signature = members.get("object"), members.get("hash"), members.get("signature")
    if kind not in _KINDS or not isinstance(said, str) or not isinstance(signature, str):
        return False
    try:
        signed = bytes.fromhex(signature)
        _verifier(public).verify(signed, _signed(kind, said))
    except (InvalidSignature, ValueError):
        return False
    return signed.hex() == signature  # hexadecimal has more than one spelling


@lru_cache(maxsize=16)
def _verifier(public: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))


def _signed(kind: str, said: str) -> bytes:
    """What is signed. Its beginning keeps the signature of one kind from being taken for another's."""
    return f"quorum {kind}\n{said}".encode("utf-8", "replace")
