"""Training that comes by itself: one replica at a time, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import Any, Final

import orjson
import structlog

from app.config.spec import LearningConfig, QuorumSpec
from app.core.audit import SERVICE, SERVICE_TENANT, Act, Actor, Recorder
from app.core.errors import StateUnavailable
from app.jobs.trainer import Trainer, stated_profiles
from app.jobs.training_process import Model, Order
from app.observability import metrics
from app.state.client import StateClient
from app.state.keys import SHARED
from app.state.lessons import LEASE_S, LessonStore

MOST_BETWEEN_S: Final = 60.0
"""How long it takes at most until a replica notices that something is due."""
_LOOKS: Final = 10
"""How often it looks while nothing is due."""
LONGEST_S: Final = 900.0
"""A training that takes longer is ended."""

_log = structlog.get_logger("quorum.training")


class TrainingJob:
    """Looks every so often whether a training is due, which it is `train.every_s` after the last one, and has it done.

    Parameters:
        redis_url: where the process that trains finds the store.
        spec: in force now; may be replaced.
        recorder: is told what was put in force.
    """

    def __init__(self, state: StateClient, redis_url: str, spec: QuorumSpec, recorder: Recorder) -> None:
        self.spec = spec
        self._state = state
        self._recorder = recorder
        self._redis_url = redis_url
        self._lessons = LessonStore(state)
        self._owner = f"t_{secrets.token_hex(8)}"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="training")

    async def close(self) -> None:
        """End it, and a training that is under way: what it had not stored is as if it had not begun."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def _config(self) -> LearningConfig:
        return self.spec.learning

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(min(self._config.train.every_s / _LOOKS, MOST_BETWEEN_S))
            try:
                if self._config.train.enabled and await self._lessons.due():
                    await self._train_if_first()
            except StateUnavailable:
                continue
            except Exception:  # the boundary: the next one must come
                metrics.TRAININGS.labels("failed").inc()
                _log.exception("training failed")

    async def _train_if_first(self) -> None:
        if not await self._lessons.take(self._owner):
            return
        try:
            trainer = Trainer(self._state, self._config, {})
            tenants = await trainer.tenants(least_new=self._config.train.min_new)
            if tenants:
                await self._run((*tenants, SHARED) if self._config.share else tenants)
            await self._lessons.trained(self._config.train.every_s)
        finally:
            with suppress(StateUnavailable):
                await self._lessons.give_back(self._owner)

    async def _run(self, scopes: tuple[str, ...]) -> None:
        """Have a process train `scopes`, for as long as this replica has the lease."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.jobs.training_process", stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment()
        )
        try:
            async with asyncio.timeout(LONGEST_S):
                done = asyncio.create_task(_said(process, self._order(scopes)))
                while not (await asyncio.wait({done}, timeout=LEASE_S / 3))[0]:
                    if not await self._lessons.renew(self._owner):
                        done.cancel()
                        _log.warning("another replica trains, so this one does not")
                        return
                said, faults = done.result()
        finally:
            await _ended(process)
        for line in said.splitlines():
            self._tell(orjson.loads(line))
        if process.returncode != 0:
            metrics.TRAININGS.labels("failed").inc()
            _log.error("training failed", code=process.returncode, said=faults.decode(errors="replace")[-2_000:])

    def _tell(self, report: Any) -> None:
        scope, version = report["scope"], report["version"]
        metrics.TRAININGS.labels("learned" if version else "kept").inc()
        _log.info("trained", scope=scope, version=version, rows=report["rows"], compared=report["compared"])
        if version:
            self._recorder.note(lessons_act(SERVICE, scope, version), "done", {"scope": scope, "rows": report["rows"]})

    def _order(self, scopes: tuple[str, ...]) -> Order:
        known = stated_profiles(self.spec).values()
        return Order(self._redis_url, scopes, self._config, tuple(Model(one.name, one.family, one.quality) for one in known))


def lessons_act(actor: Actor, scope: str, version: str) -> Act:
    """That a version of what was learned in a scope is put in force. What all tenants share is recorded with the service's."""
    tenant = SERVICE_TENANT if scope == SHARED else scope
    return Act(tenant=tenant, actor=actor, action="lessons.use", subject_kind="lessons", subject=version)


def _environment() -> dict[str, str]:
    """Ours, without the place where workers leave their metrics: it is no worker."""
    return {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}


async def _said(process: Process, order: Order) -> tuple[bytes, bytes]:
    """Both outputs of a process that obeys `order`. Its input stays open: it ends with whoever holds the other side."""
    given, out, err = process.stdin, process.stdout, process.stderr
    if given is None or out is None or err is None:
        raise RuntimeError("the process was started without its pipes")
    with suppress(ConnectionError):  # it has ended, and its faults say why
        given.write(order.packed() + b"\n")
        await given.drain()
    said = await asyncio.gather(out.read(), err.read())
    await process.wait()
    return said


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
