"""The key of a request, and the request as another process can run it again.

The header is that of draft-ietf-httpapi-idempotency-key-header: a string in quotes (RFC 8941). Most clients send it without
quotes, as Stripe's API takes it; both name the same key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import orjson
from starlette.datastructures import Headers
from starlette.types import Scope

from app.api.deadline import DEADLINE, deadline_ms
from app.core.errors import InvalidRequest
from app.core.principal import Principal
from app.state.idempotency import RequestId

HEADER: Final = b"idempotency-key"
LONGEST_KEY: Final = 255
"""Characters, as Stripe's API takes."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_PLAIN = re.compile(r"[\x21\x23-\x7e][\x20-\x7e]*")
_WAIT = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*([0-9]+))?(?:$|[,;\s])", re.IGNORECASE)
_KEPT_HEADERS: Final = frozenset({b"accept", b"content-type", b"traceparent", b"x-request-id"})
_EXACT: Final = 2**53
"""Whole numbers below it are the same with a point and without."""


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an idempotency key, whole.

    `fingerprint` says what was asked; `deadline` is Unix time in seconds, None where it may take what it takes. One that came
    without a key gets one of the service's `own` where somebody must go on with it later. `request_id`, `traceparent` and the
    peer's `address` are those of who asked first.
    """

    id: RequestId
    fingerprint: str
    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    principal: Principal
    deadline: float | None
    own: bool = False
    request_id: str = ""
    traceparent: str | None = None
    address: str | None = None

    def packed(self) -> str:
        """All that another process needs to run it. Keys and cookies are not in it; who asked is."""
        who = self.principal
        return orjson.dumps(
            {
                "method": self.method,
                "path": self.path,
                "query": self.query.decode("latin-1"),
                "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
                "body": self.body.decode("latin-1"),
                "who": [who.tenant, who.key_id, who.name, sorted(who.scopes)],
                "deadline": self.deadline,
                "own": self.own,
                "request_id": self.request_id,
                "traceparent": self.traceparent,
                "address": self.address,
            }
        ).decode()

    def scope(self, app: object, now: float) -> dict[str, Any]:
        """As an ASGI scope of its own, without a connection. `now` is Unix time in seconds."""
        headers = list(self.headers)
        if self.deadline is not None:
            left_ms = max(1, int((self.deadline - now) * 1000))
            headers.append((DEADLINE.encode(), str(left_ms).encode()))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": self.query,
            "headers": headers,
            "client": None if self.address is None else (self.address, 0),
            "server": None,
            "app": app,
            "request_id": self.request_id,
            "traceparent": self.traceparent,
        }


def read_key(headers: list[tuple[bytes, bytes]]) -> str | None:
    """The idempotency key among `headers`, None where there is none.

    Raises:
        InvalidRequest: it stands there twice, or is none.
    """
    found = [value for name, value in headers if name == HEADER]
    if not found:
        return None
    text = found[0].decode("latin-1").strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(found) > 1 or not 0 < len(key) <= LONGEST_KEY or not (quoted or _PLAIN.fullmatch(text)) or not key.isascii():
        message = f"the header Idempotency-Key wants one key of 1 to {LONGEST_KEY} printable ASCII characters, best a UUID"
        raise InvalidRequest(message, param="Idempotency-Key")
    return key


def wait_of(headers: list[tuple[bytes, bytes]], longest_s: float) -> float | None:
    """How many seconds `Prefer: wait` (RFC 7240) asks to wait for an answer that is under way; None where it does not."""
    for name, value in headers:
        found = _WAIT.search(value.decode("latin-1")) if name == b"prefer" else None
        if found:
            return min(float(found[1]), longest_s) if found[1] else longest_s
    return None


def keyed_request(scope: Scope, key: str, body: bytes, principal: Principal, now: float) -> KeyedRequest:
    """The request of `scope`, which came `now` (Unix time in seconds). Keys are per tenant and route."""
    method, path, query = scope["method"], scope["path"], scope["query_string"]
    digest = hashlib.sha256(f"{method} {path}\0{key}".encode()).hexdigest()[:40]
    headers = tuple((name, value) for name, value in scope["headers"] if name in _KEPT_HEADERS)
    deadline = Headers(scope=scope).get(DEADLINE)
    after_ms = None if deadline is None else deadline_ms(deadline)
    if deadline is not None and after_ms is None:  # the route is to refuse it
        headers = (*headers, (DEADLINE.encode(), deadline.encode("latin-1")))
    return KeyedRequest(
        RequestId(principal.tenant, digest),
        _fingerprint(query, headers, body),
        method,
        path,
        query,
        headers,
        body,
        principal,
        None if after_ms is None else now + after_ms / 1000,
        request_id=scope["request_id"],
        traceparent=scope["traceparent"],
        address=scope["client"][0] if scope["client"] else None,
    )


def own_request(scope: Scope, run_id: str, body: bytes, principal: Principal, now: float) -> KeyedRequest:
    """The request of `scope`, which came without a key, as somebody else can go on with its run. No client has such a key."""
    return replace(keyed_request(scope, f"\0{run_id}", body, principal, now), own=True)


def _fingerprint(query: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> str:
    given = dict(headers)
    streamed = b"event-stream" if b"text/event-stream" in given.get(b"accept", b"") else b""
    kind = given.get(b"content-type", b"json")
    json = b"json" in kind  # as the routes decide it
    return hashlib.sha256(b"\0".join((query, streamed, b"json" if json else kind, _canonical(body)))).hexdigest()


def _canonical(body: bytes) -> bytes:
    """`body`; JSON by what it says, since an SDK may write it otherwise the next time: without its spaces, its members in
    order, whole numbers without a point."""
    try:
        return orjson.dumps(_said(orjson.loads(body)), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        return body


def _said(value: Any) -> Any:
    match value:
        case float() if value.is_integer() and abs(value) < _EXACT:
            return int(value)
        case dict():
            return {name: _said(member) for name, member in cast("dict[str, Any]", value).items()}
        case list():
            return [_said(item) for item in cast("list[Any]", value)]
        case _:
            return value


def unpacked(request: RequestId, packed: str) -> KeyedRequest:
    """The inverse of `KeyedRequest.packed`."""
    held = orjson.loads(packed)
    tenant, key_id, name, scopes = held["who"]
    query, body = held["query"].encode("latin-1"), held["body"].encode("latin-1")
    headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in held["headers"])
    return KeyedRequest(
        request,
        _fingerprint(query, headers, body),
        held["method"],
        held["path"],
        query,
        headers,
        body,
        Principal(tenant, key_id, name, frozenset(scopes)),
        held["deadline"],
        held.get("own", False),
        held.get("request_id") or f"req_{secrets.token_hex(12)}",
        held.get("traceparent"),
        held.get("address"),
    )
