"""Telling the end of what ran in the background to a URL, signed, again and again until it is taken.

Signature and headers are those of Standard Webhooks (standardwebhooks.com), which its libraries and OpenAI's SDKs verify:
`webhook-id` (the same for each delivery of one end), `webhook-timestamp` (Unix seconds), `webhook-signature` (`v1,` and the
base64 of HMAC-SHA256 over `id.timestamp.body`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import httpx
import orjson

from app.config.jobs import WebhooksConfig
from app.core.addresses import is_address, is_public
from app.core.clock import Clock
from app.core.errors import ConfigError, InvalidRequest, ProviderError, QuorumError, StateUnavailable
from app.core.jobs import Job
from app.jobs.dead import DeadLetters
from app.jobs.worker import Announce, Later
from app.observability import metrics
from app.state.deliveries import Deliveries
from app.state.jobs import Claimed, JobQueue
from app.tools.outbound import Outbound, Reach, reason

LONGEST_DELAY_S: Final = 3600.0
MAX_RESULT_BYTES: Final = 1_000_000
"""A larger result is to be fetched; what is told says so."""
_ASKER: Final = "the webhook"
_SECRET: Final = "whsec_"  # noqa: S105 (how such a secret begins)
_GONE: Final = 410
"""Who answers with it wants no more deliveries."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What is told: `kind` of thing that ended (as `orchestration`), its status, the JSON of its result, and how often it had
    ended before."""

    url: str
    kind: str
    status: str
    result: bytes
    round: int = 0


Find = Callable[[str, str], Awaitable[Ended | None]]
"""By tenant and id: what is to be told, None where nothing is any more. Raises `ConfigError` where it cannot be read."""


class Webhooks:
    """Delivers what `find` finds.

    Parameters:
        config: in force now; `configure` replaces it.
    """

    def __init__(
        self,
        config: WebhooksConfig,
        queue: JobQueue,
        deliveries: Deliveries,
        dead: DeadLetters,
        clock: Clock,
        rng: Random,
        announce: Announce,
    ) -> None:
        self._queue = queue
        self._announce = announce
        self._deliveries = deliveries
        self._dead = dead
        self._clock = clock
        self._rng = rng
        self._outbound = Outbound(settings="webhooks")
        self.find: Mapping[str, Find] = {}
        """By what the ids of such things begin with, up to the first underscore."""
        self.configure(config)

    def configure(self, config: WebhooksConfig) -> None:
        self.config = config
        self._outbound.reach = Reach(config.hosts, config.private_hosts)

    def check(self, url: str | None) -> None:
        """Whether the end of something may be told to `url`; None is no webhook.

        Raises:
            InvalidRequest: it may not; says what to do about it.
        """
        if url is None:
            return
        if self.config.secret is None:
            raise InvalidRequest("webhooks are not configured: set webhooks.secret and webhooks.hosts", param="webhook")
        try:
            where = httpx.URL(url)
        except httpx.InvalidURL:
            raise InvalidRequest("webhook is no URL", param="webhook") from None
        if where.scheme not in ("http", "https") or not where.host or where.userinfo or where.fragment:
            message = "webhook wants a plain http(s)://host[:port]/path, without a user or a fragment"
            raise InvalidRequest(message, param="webhook")
        reach = self._outbound.reach
        if not reach.lists(where):
            raise InvalidRequest(f"the host {where.host!r} is not listed under webhooks.hosts", param="webhook")
        if is_address(where.host) and not is_public(where.host) and not reach.lists_private(where):
            message = f"{where.host!r} is not public; it would have to be listed under webhooks.private_hosts"
            raise InvalidRequest(message, param="webhook")

    async def deliveries(self, tenant: str, subject: str) -> list[bytes]:
        """What became of each delivery, the oldest first, as JSON."""
        return await self._deliveries.all(tenant, subject)

    async def put(self, tenant: str, subject: str, round_: int = 0) -> None:
        """Have the end of `subject` told, before other work of the tenant. May be said again. `round_`: it had ended so often
        before."""
        again = f"{round_}:" if round_ else ""
        job = Job(f"hook:{tenant}:{again}{subject}", tenant, "webhook", "high")
        if await self._queue.put(job):
            await self._announce(job.id, 1)

    async def work(self, job: Claimed) -> Later | None:
        """Deliver once; say when to try again where that was not taken."""
        again, _, subject = job.id.removeprefix(f"hook:{job.tenant}:").rpartition(":")
        ended, fault = await self._found(job.tenant, subject)
        if ended is None:
            if fault:
                await self._dead.put(job, fault)
            return None
        if ended.round != int(again or 0):  # it has been run again, and has ended again
            return None
        if job.why:
            await self._dead.put(job, job.why)
            return None
        began = self._clock.monotonic()
        event_id = f"evt_{subject}_{ended.round}" if ended.round else f"evt_{subject}"
        status, fault = await self._sent(event_id, subject, ended)
        taken = status is not None and 200 <= status < 300
        again = not taken and status != _GONE and job.attempts < self.config.max_attempts
        outcome = "delivered" if taken else "again" if again else "given_up"
        line = {
            "event": event_id,
            "attempt": job.attempts,
            "at": int(self._clock.now()),
            "outcome": outcome,
            "status": status,
            "error": fault,
            "ms": round((self._clock.monotonic() - began) * 1000, 1),
        }
        await self._deliveries.add(job.tenant, subject, orjson.dumps(line))
        metrics.WEBHOOKS.labels(outcome).inc()
        if again:
            return Later(self._delay_s(job.attempts), counts=True)
        if not taken:
            await self._dead.put(job, fault or f"the webhook answered {status}")
        return None

    async def _found(self, tenant: str, subject: str) -> tuple[Ended | None, str | None]:
        try:
            return await self.find[subject.partition("_")[0]](tenant, subject), None
        except ConfigError as error:
            return None, error.message

    async def _sent(self, event_id: str, subject: str, ended: Ended) -> tuple[int | None, str | None]:
        """The status of the answer, whose body is nobody's concern, or what was wrong."""
        body = _event(event_id, subject, ended, int(self._clock.now()))
        try:
            self.check(ended.url)
            headers = {"content-type": "application/json", "user-agent": "quorum", **self.signed(event_id, body)}
            url, timeout_s = httpx.URL(ended.url), self.config.timeout_s
            answer = await self._outbound.ask(_ASKER, "POST", url, headers, body, timeout_s=timeout_s, whole=False)
        except StateUnavailable:
            raise
        except ProviderError as error:
            return None, f"{_ASKER} failed: {reason(error)}"
        except QuorumError as error:
            return None, error.message
        return answer.status, None

    def signed(self, event_id: str, body: bytes) -> dict[str, str]:
        """The headers that say who sends `body`, and when."""
        at = str(int(self._clock.now()))
        told = b".".join((event_id.encode(), at.encode(), body))
        signature = base64.b64encode(hmac.digest(self._key(), told, hashlib.sha256)).decode()
        return {"webhook-id": event_id, "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}

    def _key(self) -> bytes:
        secret = self.config.secret.get_secret_value() if self.config.secret else ""
        if not secret.startswith(_SECRET):
            return secret.encode()
        try:
            return base64.b64decode(secret.removeprefix(_SECRET))
        except binascii.Error:
            return secret.encode()

    def _delay_s(self, attempts: int) -> float:
        most = min(LONGEST_DELAY_S, self.config.first_delay_s * 2 ** (attempts - 1))
        return most * self._rng.uniform(0.5, 1.0)

    async def aclose(self) -> None:
        await self._outbound.aclose()


def _event(event_id: str, subject: str, ended: Ended, now: int) -> bytes:
    whole = len(ended.result) <= MAX_RESULT_BYTES
    data: Any = orjson.Fragment(ended.result) if whole else {"id": subject, "status": ended.status, "truncated": True}
    event = {
        "id": event_id,
        "object": "event",
        "type": f"{ended.kind}.{ended.status}",
        "created_at": now,
        "data": data,
    }
    return orjson.dumps(event)
