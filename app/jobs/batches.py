"""Batches: taken as their lines come, each part a job, their results read while they go on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson

from app.config.jobs import BatchesConfig, JobsConfig
from app.core.clock import Clock
from app.core.errors import ConfigError, ConflictError, InvalidRequest, NotFound
from app.core.jobs import Job, Priority
from app.core.principal import Principal
from app.jobs.batch_apart import LOOK_S as APART_LOOK_S
from app.jobs.batch_lines import LOOK_S, Came, Lines, Part
from app.jobs.batch_upload import BatchOrder, Upload, opened_lines
from app.jobs.dead import DeadLetters
from app.jobs.webhooks import Ended, Webhooks
from app.jobs.worker import Announce, Later
from app.orchestration.paging import Page, paged
from app.state.batches import UPLOAD_S, Batches, BatchRecord
from app.state.jobs import Claimed, JobQueue
from app.state.secrets import Sealer

LIMITED_A_SECOND: Final = 20
"""Parts of a batch that look, in a second, whether a limit of their caller lets lines through, however large it is."""
MAX_ABOUT_BYTES: Final = 16_384
ANNOUNCED: Final = 64
"""Workers that are told of a batch at once."""


class BatchRuns:
    """Takes batches, and runs their parts.

    Parameters:
        sealer: lines are stored encrypted.
        config, jobs: in force now; may be replaced.
    """

    def __init__(
        self,
        store: Batches,
        lines: Lines,
        queue: JobQueue,
        dead: DeadLetters,
        webhooks: Webhooks,
        sealer: Sealer,
        clock: Clock,
        config: BatchesConfig,
        jobs: JobsConfig,
        announce: Announce,
    ) -> None:
        self.config = config
        self.jobs = jobs
        self._store = store
        self._lines = lines
        self._queue = queue
        self._dead = dead
        self._webhooks = webhooks
        self._sealer = sealer
        self._clock = clock
        self._announce = announce

    # ---- upload

    async def upload(self, order: BatchOrder) -> Upload:
        """A new batch, whose lines come now.

        Raises:
            InvalidRequest: nobody may be told of its end where `order` wants that, or what it was made with is too large.
        """
        self._webhooks.check(order.webhook)
        about = orjson.dumps(dict(order.about))
        if len(about) > MAX_ABOUT_BYTES:
            message = f"metadata may have up to {MAX_ABOUT_BYTES} bytes: it comes back whenever the batch is read or listed"
            raise InvalidRequest(message, param="metadata")
        upload = Upload(order, self._store, self._sealer, self.config.max_lines, self._enqueue)
        fields: dict[str, str | bytes | int] = {
            "about": about,
            "sealed": self._sealed(order, upload.id),
            "created_at": int(self._clock.now()),
        }
        await self._store.begin(order.who.tenant, upload.id, fields)
        return upload

    def _sealed(self, order: BatchOrder, batch_id: str) -> str:
        who = order.who
        held = [who.tenant, who.key_id, who.name, sorted(who.scopes), order.address, order.webhook, order.priority]
        return self._sealer.seal(orjson.dumps(held).decode(), owner=f"{who.tenant}:{batch_id}")

    async def _enqueue(self, upload: Upload, parts: Sequence[tuple[int, set[str]]]) -> BatchRecord:
        """Put the parts into the queue, then keep the batch: where this breaks off, nothing of it is left after a while."""
        tenant, created_us = upload.order.who.tenant, int(self._clock.now() * 1_000_000)
        for number, (size, providers) in enumerate(parts):
            await self._put(tenant, f"{upload.id}:{number}:0", size, upload.order.priority, sorted(providers))
        sizes, asked = [size for size, _ in parts], sorted({name for _, names in parts for name in names})
        kept = await self._store.keep(
            tenant, upload.id, sizes=sizes, providers=asked, created_us=created_us, keep_s=self._held_s
        )
        if not kept:
            message = f"the upload took longer than {UPLOAD_S // 60} minutes; make several batches of it"
            raise InvalidRequest(message, code="body_timeout")
        await self._announce(upload.id, min(len(parts), ANNOUNCED))
        return await self.get(tenant, upload.id)

    @property
    def _held_s(self) -> int:
        """How long a batch lasts that is not over, from each of its results on: its parts begin within `max_wait_s`."""
        return self.config.keep_s + self.jobs.max_wait_s

    async def _put(self, tenant: str, job_id: str, size: int, priority: Priority, providers: Sequence[str] = ()) -> None:
        slots = min(size, self.config.concurrency)
        await self._queue.put(Job(job_id, tenant, "batch", priority, slots, size, tuple(providers)))

    # ---- reading and changing

    async def get(self, tenant: str, batch_id: str) -> BatchRecord:
        """Raises NotFound: nothing of that id is kept for `tenant`."""
        found = await self._store.get(tenant, batch_id)
        if found is None or found.status == "uploading":
            raise NotFound(f"no batch {batch_id!r} is kept", param="id")
        return found

    async def page(self, tenant: str, *, cursor: str | None, limit: int) -> Page[BatchRecord]:
        """Up to `limit` batches, the newest first.

        Raises:
            InvalidRequest: the cursor is none of ours.
        """

        async def kept(row: BatchRecord) -> BatchRecord | None:
            return row

        return await paged(cursor, limit, partial(self._store.page, tenant), kept)

    async def results(self, tenant: str, batch: BatchRecord, only: str | None = None) -> AsyncGenerator[bytes]:
        """What has come of the lines so far, as lines of JSON, a part at a time; `only` those that "succeeded" or "failed"."""
        for part in range(batch.parts):
            rows = await self._store.results(tenant, batch.id, part)
            some = b"".join(row + b"\n" for good, row in rows if only is None or good is (only == "succeeded"))
            if some:
                yield some

    async def cancel(self, tenant: str, batch_id: str) -> BatchRecord:
        """Have no further line begun, and the calls of those under way closed. Harmless where it is over.

        Raises:
            NotFound: as `get`.
        """
        batch = await self.get(tenant, batch_id)
        if not batch.over:
            await self._store.cancel(tenant, batch_id)
            for number in range(batch.parts if batch.waiting else 0):
                await self._queue.hurry(f"{batch_id}:{number}:{batch.round}")
        return await self.get(tenant, batch_id)

    async def retry(self, who: Principal, batch_id: str, address: str | None) -> BatchRecord:
        """Run the lines again that failed, and those that never ran, for `who`, at `address`, who wants it.

        Raises:
            NotFound: as `get`.
            ConflictError: the batch is not over, or cannot be read with the secret of by now.
        """
        tenant = who.tenant
        batch = await self.get(tenant, batch_id)
        try:
            order = replace(self._held(tenant, batch), who=who, address=address)
        except ConfigError as error:
            raise ConflictError(error.message, param="id") from None
        prepared = await self._store.again(tenant, batch)
        if prepared is None:
            raise ConflictError(f"the batch {batch_id!r} is not over; cancel it first, or wait for its end", param="id")
        round_, parts = prepared
        await self._store.hold(tenant, batch, self._held_s)
        for number, size in parts:
            await self._put(tenant, f"{batch_id}:{number}:{round_}", size, order.priority, batch.providers)
        left, sealed = [number for number, _ in parts], self._sealed(order, batch_id)
        await self._store.go_again(tenant, batch, round_, left, sealed, self._held_s)
        if parts:
            await self._announce(batch_id, min(len(parts), ANNOUNCED))
        else:
            await self._store.hold(tenant, batch, self.config.keep_s)
        return await self.get(tenant, batch_id)

    async def ended(self, tenant: str, batch_id: str) -> Ended | None:
        """What is to be told of the end of a batch; None where nothing is any more."""
        batch = await self._store.get(tenant, batch_id)
        if batch is None or not batch.over:
            return None
        url = self._held(tenant, batch).webhook
        return Ended(url, "batch", batch.status, orjson.dumps(shown(batch)), batch.round) if url else None

    def _held(self, tenant: str, batch: BatchRecord) -> BatchOrder:
        """Who asked for it, and what else only workers need to know. Raises `ConfigError` where the secret is another one."""
        held = orjson.loads(self._sealer.open(batch.sealed, owner=f"{tenant}:{batch.id}"))
        owner, key_id, name, scopes, address, webhook, priority = held
        return BatchOrder(Principal(owner, key_id, name, frozenset(scopes)), {}, priority, webhook, address)

    # ---- running

    async def work(self, job: Claimed) -> Later | None:
        """Run the lines of a part that have no result yet; the part that is over last ends the batch."""
        batch_id, number, round_ = job.id.rsplit(":", 2)
        batch = await self._store.get(job.tenant, batch_id)
        if batch is None:
            return None
        if batch.status in ("uploading", "retrying"):
            return Later(LOOK_S)
        place, keep_s = (job.tenant, batch_id, int(number), int(round_)), self._held_s
        told = await self._store.part(*place, over=False, keep_s=keep_s)
        if told is None:
            return None
        if told[0]:
            await self._lines.drop(Part(job.tenant, batch, int(number), self._held(job.tenant, batch), 0), keep_s)
        else:
            try:
                came = await self._lines_of(job, batch, int(number))
            except ConfigError as error:
                await self._dead.put(job, error.message)
            else:
                if came == "waits":
                    return Later(APART_LOOK_S, waits=True)
                if came != "over":
                    return Later() if came == "elsewhere" else Later(max(came, batch.parts / LIMITED_A_SECOND))
        told = await self._store.part(*place, over=True, keep_s=keep_s)
        if told is not None and told[1]:
            await self._store.hold(job.tenant, batch, self.config.keep_s)
            if self._told_to(job.tenant, batch):
                await self._webhooks.put(job.tenant, batch_id, int(round_))
        return None

    def _told_to(self, tenant: str, batch: BatchRecord) -> str | None:
        """Where its end is told; nowhere where that cannot be read any more, which its parts' dead letters say."""
        try:
            return self._held(tenant, batch).webhook
        except ConfigError:
            return None

    async def _lines_of(self, job: Claimed, batch: BatchRecord, number: int) -> Came | float:
        """Run a part."""
        sealed = await self._store.lines(job.tenant, batch.id, number)
        if sealed is None:
            return "over"
        order = self._held(job.tenant, batch)
        if job.why:
            await self._dead.put(job, job.why)
        part = Part(job.tenant, batch, number, order, job.granted, job.why, job.id)
        lines = opened_lines(self._sealer, (job.tenant, batch.id, number), sealed)
        return await self._lines.run(part, lines, self._held_s)


def shown(batch: BatchRecord) -> dict[str, Any]:
    """A batch as it is read."""
    return {
        "id": batch.id,
        "object": "batch",
        "status": "cancelling" if batch.cancelling and not batch.over else batch.status,
        "counts": {
            "total": batch.total,
            "succeeded": batch.succeeded,
            "failed": batch.failed,
            "left": batch.total - batch.succeeded - batch.failed,
            "waiting": batch.waiting,
        },
        "usage": {"input_tokens": batch.input_tokens, "output_tokens": batch.output_tokens},
        "cost_usd": None if batch.unpriced else batch.nano_usd / 1e9,
        "retries": batch.round,
        "created_at": batch.created_at,
        "started_at": batch.started_at,
        "finished_at": batch.finished_at,
        **orjson.loads(batch.about),
    }
