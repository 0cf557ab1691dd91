"""One step of a workflow: whether it is done, how often it is tried, and what its failure comes to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from dataclasses import replace
from typing import Final

from app.config.workflows import StepRetry, WorkflowAction, WorkflowStep
from app.core.chat import JsonObject
from app.core.conditions import Condition, Unanswerable
from app.core.errors import ErrorReport, OrchestratorError, report
from app.core.run_events import RunEvent, StepCompensated, StepFinished, StepSkipped, StepStarted
from app.workflows.doing import Actions, Doing, chosen, ready_of
from app.workflows.failing import UNANSWERABLE, LevelFailed, StepFailed, StepWaits, may_pass, named
from app.workflows.graph import needs, parts, wanted
from app.workflows.journal import key_of
from app.workflows.levels import Level, Values
from app.workflows.middleware import Hooks, StepInfo
from app.workflows.outcome import Outcome, Tally
from app.workflows.references import NOTHING, Reference, Unfound, at, bound_condition, filled
from app.workflows.running import Running

LEFT: Final = ("skipped", "failed")
"""How a step ends that leaves no result."""


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
            stop = self._running.context.stop
            if stop is not None and level.first and level.ended:
                stop.over()

    async def _due(self) -> AsyncGenerator[RunEvent]:
        level, journal = self._level, self._running.journal
        recorded = journal.result(self._path, self._key)
        if recorded is not None:
            self._over(recorded)
            skipped = recorded["status"] == "skipped"
            yield StepSkipped(self._path, recorded["reason"]) if skipped else StepFinished(self._path, recorded)
            return
        try:
            why = await self._why_not()
        except Unanswerable as error:
            raise await self._failed(report(OrchestratorError(f"its condition cannot be decided: {error}"))) from None
        if why is not None:
            result: JsonObject = {"status": "skipped", "output": None, "reason": why}
            await journal.finish(self._path, self._key, result)
            self._over(result)
            yield StepSkipped(self._path, why)
            return
        async with level.pool(self._step.pool) or nullcontext():
            if not level.failing:
                async with aclosing(self._done()) as events:
                    async for event in events:
                        yield event

    async def _why_not(self) -> str | None:
        """Why it is skipped; None where it is done."""
        step = self._step
        if step.when is not None:
            bound = bound_condition(step.when)
            assert isinstance(bound.compiled, Condition)  # noqa: S101 - which conditions are
            if not await bound.compiled.holds(bound.values(self._values.find)):
                return "its condition does not hold"
        for reference in (*wanted(step), *await self._wanted_by_case()):
            for path in reference.paths:
                if path[0] != "steps" or len(path) < 2:
                    continue
                result = self._level.results.get(str(path[1]), {})
                if result.get("status") in LEFT and at(result, path[2:]) in (None, NOTHING):
                    return f"{path[1]!r}, which it needs, has no result ({result['status']})"
        return None

    async def _wanted_by_case(self) -> tuple[Reference, ...]:
        """What the case of a switch wants that will be done."""
        if self._step.switch is None:
            return ()
        try:
            case = await chosen(self._step, self._values, Outcome())
        except Unanswerable:  # which is a failure of the step, and may be answered for
            return ()
        return () if case is None else wanted(case)

    # ---- doing it

    async def _done(self) -> AsyncGenerator[RunEvent]:
        """Do it, write down what came of it, and only then, where it writes, let others cut it.

        Raises:
            LevelFailed: it has failed for good.
        """
        running = self._running
        writes = any(running.acting.writes(action.tool.name) for _, action in parts(self._step) if action.tool is not None)
        if writes:
            running.write_begins()
        try:
            async with aclosing(self._tried_to_the_end()) as events:
                async for event in events:
                    yield event
        finally:
            if writes:
                running.write_ends()
        if self._error is not None:
            raise await self._failed(self._error)

    async def _tried_to_the_end(self) -> AsyncGenerator[RunEvent]:
        """As `_done`; what it fails with is left in `_error`."""
        running, hooks = self._running, self._hooks
        self._level.standing[self._name] = "running"
        hooks.start(self._info)
        yield StepStarted(self._path)
        began = running.now()
        tries = Tries(self._step, max(1, running.journal.begun(self._path)))
        outcome, error = self._outcome(), None
        try:
            running.count()
        except StepFailed as failed:
            self._error = failed.error
            return
        while True:
            outcome = self._outcome()
            error = None
            try:
                async with aclosing(self._tried(self._step, self._path, tries.number, outcome)) as events:
                    async for event in events:
                        yield event
                break
            except StepFailed as failed:
                error = failed.error
            hooks.error(self._info, error)
            wait_s = tries.wait_s(error, running.left_s())
            if wait_s is None or self._level.failing:
                break
            if tries.compensating:
                yield StepCompensated(self._path, "retry")
                action = self._step.compensate.action if self._step.compensate is not None else None
                if action is not None:
                    async with aclosing(self._put_right(action, tries.number)) as events:
                        async for event in events:
                            yield event
            await asyncio.sleep(wait_s)
        status = "succeeded"
        compensation = self._step.compensate
        if error is not None and error.code not in UNANSWERABLE and compensation is not None:
            if compensation.do == "continue":
                yield StepCompensated(self._path, "continue")
                status, outcome.output = "failed", None
                outcome.facts["error"] = {"code": error.code, "message": error.message}
                error = None
            elif compensation.do == "replace":
                yield StepCompensated(self._path, "replace")
                outcome = self._outcome()
                try:
                    async with aclosing(self._replaced(outcome)) as events:
                        async for event in events:
                            yield event
                    error = None
                except StepFailed as failed:
                    error = failed.error
        result = outcome.result(status, (running.now() - began) * 1000, tries.number)
        if error is not None:
            self._level.standing[self._name] = "failed"
            hooks.finish(self._info, {**result, "status": "failed", "output": None})
            self._error = error
            return
        try:
            await self._finish(result, outcome, status)
        except StepFailed as failed:
            self._error = failed.error
            return
        yield StepFinished(self._path, result)

    def _outcome(self) -> Outcome:
        """Of another try, which was paid for too where it fails."""
        return Outcome(took=self._took, own=self._own)

    async def _tried(self, action: WorkflowAction, path: str, try_: int, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        """One try of an action of this step.

        Raises:
            StepFailed: it has failed.
        """
        until = self._running.until(self._step.timeout_s)
        doing = Doing(path, try_, until, self._means, self._level)
        source = self._running.in_time(self._actions.do(action, doing, self._values, outcome), until)
        async with aclosing(source) as events:
            async for event in events:
                self._took.add(event)
                self._hooks.event(self._info, event)
                yield event
        outcome.output = self._running.bounded(outcome.output)

    async def _put_right(self, action: WorkflowAction, try_: int) -> AsyncGenerator[RunEvent]:
        """What is done before another try. Whether it succeeds, that shows."""
        try:
            async with aclosing(self._tried(action, f"{self._path}!retry", try_, self._outcome())) as events:
                async for event in events:
                    yield event
        except StepFailed as failed:
            self._hooks.error(self._info, failed.error)

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

    async def _finish(self, result: JsonObject, outcome: Outcome, status: str) -> None:
        """Write it down, with what undoes it, and let others go on.

        Raises:
            StepFailed: what undoes it is too large.
        """
        undo, step = None, self._step
        if step.undo is not None and status == "succeeded":
            values = self._values.with_result(self._name, result)
            try:
                undo = {**ready_of(step.undo, values, missing=None), "timeout_s": step.timeout_s}
            except OrchestratorError as error:
                raise StepFailed(replace(report(error), message=f"undo: {error.message}")) from None
        calls, tools = outcome.recorded()
        await self._running.journal.finish(self._path, self._key, result, undo=undo, calls=calls, tools=tools)
        self._over(result)
        self._hooks.finish(self._info, result)

    def _over(self, result: JsonObject) -> None:
        self._level.results[self._name] = result
        self._level.standing[self._name] = result["status"]

    async def _failed(self, error: ErrorReport) -> LevelFailed:
        """Note that the workflow has failed, and let what writes end before the rest is cut."""
        level = self._level
        if level.failure is None:
            level.failure, level.failed_step = named(error, self._path), self._path
        await self._running.writes_over()
        return LevelFailed()


class Tries:
    """Which try of a step it is, from 1, and whether there is another one."""

    def __init__(self, step: WorkflowStep, number: int) -> None:
        self.number = number
        self.compensating = False
        self._retry = step.retry
        compensation = step.compensate
        self._again = compensation.times if compensation is not None and compensation.do == "retry" else 0

    def wait_s(self, error: ErrorReport, left_s: float) -> float | None:
        """How long to wait before the next one; None where there is none, or not in the `left_s` seconds that the run has."""
        retry: StepRetry | None = self._retry
        if retry is not None and self.number <= retry.times and may_pass(error, retry.on):
            wait_s = random.uniform(0, retry.wait_s * 2 ** (self.number - 1))  # noqa: S311 (waits, not secrets)
            if wait_s < left_s:
                self.number += 1
                return wait_s
        if left_s > 0 and self._again and error.code not in UNANSWERABLE:
            self._again -= 1
            self.compensating = True
            self.number += 1
            return 0.0
        return None
