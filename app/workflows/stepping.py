"""One step of a workflow: whether it is done, its tries, and what its failure comes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext

from app.config.workflows import WorkflowAction, WorkflowStep
from app.core.chat import JsonObject
from app.core.conditions import Unanswerable
from app.core.errors import ErrorReport, OrchestratorError, report
from app.core.run_events import RunEvent, StepCompensated, StepFinished, StepSkipped, StepStarted
from app.workflows.doing import Actions, Doing
from app.workflows.failing import UNANSWERABLE, UNCERTAIN, LevelFailed, StepFailed, StepWaits, named
from app.workflows.graph import needs
from app.workflows.journal import key_of
from app.workflows.levels import Level, Values
from app.workflows.middleware import Hooks, StepInfo
from app.workflows.outcome import Outcome, Tally
from app.workflows.references import Unfound, filled
from app.workflows.running import Mark, Running
from app.workflows.skipping import why_not
from app.workflows.tries import Tries
from app.workflows.undoing import undo_of, undo_of_items


class StepRun:
    """A step under way. Its result goes to its `level`."""

    def __init__(self, running: Running, actions: Actions, level: Level, name: str, hooks: Hooks) -> None:
        self._running, self._actions, self._level, self._name, self._hooks = running, actions, level, name, hooks
        self._step: WorkflowStep = level.config.steps[name]
        self._path = level.path + name
        self._key = key_of(self._step)
        self._values = Values(level, running.facts)
        self._info = StepInfo(running.context.run_id, level.name, self._path)
        self._means = running.acting.means(self._step.budget, level.means)
        self._took, self._own = Tally(), Tally()
        self._error: ErrorReport | None = None
        self._mark: Mark | None = None
        self._began = 0.0
        self._wait_s = 0.0
        self._counted = self._ended = False

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Wait for what it needs, and do it.

        Raises:
            LevelFailed: it has failed for good.
        """
        level = self._level
        try:
            for need in needs(self._step):
                await level.over[need].wait()
            if not level.failing and all(need in level.results for need in needs(self._step)):
                async with aclosing(self._due()) as events:
                    async for event in events:
                        yield event
        except StepWaits:
            level.standing[self._name] = "halted"
        finally:
            level.over[self._name].set()
            stop = self._running.context.hosting.stop
            if stop is not None and level.first and level.ended:
                stop.over()

    async def _due(self) -> AsyncGenerator[RunEvent]:
        journal = self._running.journal
        recorded = journal.result(self._path, self._key)
        if recorded is not None:
            self._over(recorded)
            skipped = recorded["status"] == "skipped"
            yield StepSkipped(self._path, recorded["reason"]) if skipped else StepFinished(self._path, recorded)
            return
        try:
            why = await why_not(self._step, self._values)
        except Unanswerable as error:
            raise await self._failed(report(OrchestratorError(f"its condition cannot be decided: {error}"))) from None
        if why is not None:
            result: JsonObject = {"status": "skipped", "output": None, "reason": why}
            await journal.finish(self._path, self._key, result)
            self._over(result)
            yield StepSkipped(self._path, why)
            return
        async with aclosing(self._done()) as events:
            async for event in events:
                yield event

    # ---- doing it

    async def _done(self) -> AsyncGenerator[RunEvent]:
        """Do it, try by try. A slot of its pool is held for each by itself, not while it waits for the next.

        Raises:
            LevelFailed: it has failed for good.
        """
        running, level = self._running, self._level
        tries = Tries(self._step, max(1, running.journal.begun(self._path)))
        while not self._ended:
            async with level.pool(self._step.pool) or nullcontext():
                if level.failing:
                    return
                async with aclosing(self._uncut(tries)) as events:
                    async for event in events:
                        yield event
            if self._error is not None:
                raise await self._failed(self._error)
            if not self._ended:
                await asyncio.sleep(self._wait_s)

    async def _uncut(self, tries: Tries) -> AsyncGenerator[RunEvent]:
        """A try. Where it writes, others may cut it only once it is written down what came of it."""
        running = self._running
        with running.noting_cuts(self._path, lambda: self._own), running.writing(self._step) as self._mark:
            async with aclosing(self._turn(tries)) as events:
                async for event in events:
                    yield event

    async def _turn(self, tries: Tries) -> AsyncGenerator[RunEvent]:
        """A try, and what it comes to: the step's end (`_ended`), which may be a failure (`_error`), or a wait for the next."""
        running = self._running
        if not self._began:
            self._began = running.now()
            self._level.standing[self._name] = "running"
            self._hooks.start(self._info)
            yield StepStarted(self._path)
        outcome, try_ = self._outcome(), tries.number
        try:
            if not self._counted:
                self._counted = True
                running.count()
            if tries.compensating:
                async with aclosing(self._put_right(try_)) as events:
                    async for event in events:
                        yield event
            async with aclosing(self._tried(self._step, self._path, try_, outcome)) as events:
                async for event in events:
                    yield event
            ending = self._well(outcome, "succeeded", try_)
        except StepFailed as failed:
            error = await self._noted(failed)
            wait_s = tries.wait_s(error, running.left_s())
            if wait_s is not None and not self._level.failing:
                self._wait_s = wait_s
                return
            ending = self._answered_for(error, try_)
        self._ended = True
        async with aclosing(ending) as events:
            async for event in events:
                yield event

    async def _noted(self, failed: StepFailed) -> ErrorReport:
        """The failure of a try. What it has used is written down, for who goes on with the run."""
        error = self._running.acting.effects.of(failed.error, self._path, last=False)
        self._hooks.error(self._info, error)
        spent, self._own = self._own, Tally()
        await self._running.journal.spent(self._path, *spent.recorded())
        await self._running.note_cuts()
        return error

    def _outcome(self) -> Outcome:
        """Of another try, which was paid for too where it fails."""
        return Outcome(took=self._took, own=self._own)

    async def _tried(self, action: WorkflowAction, path: str, try_: int, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        """One try of an action of this step.

        Raises:
            StepFailed: it has failed.
        """
        until = self._running.until(self._step.timeout_s)
        doing = Doing(path, try_, until, self._means, self._level, self._mark)
        source = self._running.in_time(self._actions.do(action, doing, self._values, outcome), until)
        async with aclosing(source) as events:
            async for event in events:
                self._took.add(event)
                self._hooks.event(self._info, event)
                yield event
        outcome.output = self._running.bounded(outcome.output)

    async def _put_right(self, try_: int) -> AsyncGenerator[RunEvent]:
        """What is done before another try. Whether it succeeds, that shows.

        Raises:
            StepFailed: nobody knows whether it took effect.
        """
        yield StepCompensated(self._path, "retry")
        action = self._step.compensate.action if self._step.compensate is not None else None
        if action is None:
            return
        path = f"{self._path}!retry"
        try:
            async with aclosing(self._tried(action, path, try_, self._outcome())) as events:
                async for event in events:
                    yield event
        except StepFailed as failed:
            error = self._running.acting.effects.of(failed.error, path, last=False)
            if error.code in UNANSWERABLE:
                raise StepFailed(error) from None
            self._hooks.error(self._info, error)

    async def _answered_for(self, error: ErrorReport, try_: int) -> AsyncGenerator[RunEvent]:
        """What its `compensate` makes of its failure."""
        compensation = self._step.compensate
        if compensation is None or compensation.do not in ("continue", "replace") or error.code in UNANSWERABLE:
            self._badly(error, try_)
            return
        yield StepCompensated(self._path, compensation.do)
        outcome, status = self._outcome(), "failed"
        if compensation.do == "continue":
            outcome.facts["error"] = {"code": error.code, "message": error.message}
        else:
            status = "succeeded"
            try:
                async with aclosing(self._replaced(outcome)) as events:
                    async for event in events:
                        yield event
            except StepFailed as failed:
                self._badly(await self._noted(failed), try_)
                return
        async with aclosing(self._well(outcome, status, try_, replaced=True)) as events:
            async for event in events:
                yield event

    async def _replaced(self, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        compensation = self._step.compensate
        assert compensation is not None  # noqa: S101 - who calls this has looked
        if compensation.action is not None:
            async with aclosing(self._tried(compensation.action, f"{self._path}!replace", 1, outcome)) as events:
                async for event in events:
                    yield event
            return
        try:
            outcome.output = self._running.bounded(filled(compensation.value, self._values.find))
        except Unfound as error:
            raise StepFailed(OrchestratorError(f"${{{error.reference.text}}} leads to nothing")) from None
        except OrchestratorError as error:
            raise StepFailed(error) from None

    # ---- its end

    async def _well(self, outcome: Outcome, status: str, try_: int, *, replaced: bool = False) -> AsyncGenerator[RunEvent]:
        """Write down that it is over, with what undoes it, and let others go on. Where its output is not its own (`replaced`),
        items of it may have been done all the same."""
        running = self._running
        result = outcome.result(status, (running.now() - self._began) * 1000, try_)
        try:
            undo = undo_of(self._step, self._name, self._values, result) if status == "succeeded" else None
            undo_items = undo_of_items(self._step, self._name, self._values, running.journal) if replaced else None
        except StepFailed as failed:
            self._error = failed.error
            return
        calls, tools = outcome.recorded()
        running.acting.effects.answered(self._path)
        await running.journal.finish(self._path, self._key, result, undo=undo, undo_items=undo_items, calls=calls, tools=tools)
        self._over(result)
        self._hooks.finish(self._info, result)
        yield StepFinished(self._path, result)

    def _badly(self, error: ErrorReport, try_: int) -> None:
        """It has failed for good."""
        self._error = error
        self._level.standing[self._name] = "failed"
        self._hooks.finish(self._info, self._outcome().result("failed", (self._running.now() - self._began) * 1000, try_))

    def _over(self, result: JsonObject) -> None:
        self._level.results[self._name] = result
        self._level.standing[self._name] = result["status"]

    async def _failed(self, error: ErrorReport) -> LevelFailed:
        """Note that the workflow has failed, and let what writes end before the rest is cut."""
        level = self._level
        if level.failure is None or error.code == UNCERTAIN:
            level.failure, level.failed_step = named(error, self._path), self._path
        await self._running.writes_over()
        return LevelFailed()
