"""Training end to end: what was judged changes what every replica answers, by command and by itself, and can be taken back."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.config.learning import LearningConfig
from app.jobs.trainer import Trainer
from app.observability.metrics import BAD_ARTEFACTS
from app.orchestration.learning.training import Row
from app.state.audit import AuditStore
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.keys import SHARED, learning_keys
from app.state.lessons import LessonStore
from app.state.observations import ObservationStore
from tests.orchestration.learning.judged import LABELS, SKILLS, judged_rows
from tests.support.clocks import SkewedClock
from tests.support.loopback import Loopback, Received, as_json
from tests.support.openai_wire import completion
from tests.support.replicas import replicas
from tests.support.serving import Serving, upstream

QUORUM = str(Path(sys.executable).with_name("quorum"))
ASKED: dict[str, Any] = {
    "input": "who wrote this sonata",
    "strategy": "consensus",
    "models": list(SKILLS),
    "options": {"extract": {"type": "choice", "choices": LABELS}},
}
TRUSTED, OUTVOTED = "B", "A"


async def seeded(state: StateClient, tenant: str, rows: Sequence[Row]) -> None:
    """What feedback on these runs would have left."""
    store = ObservationStore(state)
    for row in rows:
        await store.put(tenant, [(row.run.run_id, row.run.as_json())], keep_runs=5_000, keep_s=600)
        for target, one in row.judgements.items():
            await store.judge(tenant, row.run.run_id, target, one.as_json(), source=one.source, keep_s=600)
        await store.count_judgement(tenant)


def answer(request: Received) -> Any:
    return as_json(completion(f"Answer: {TRUSTED if request.json['model'] == 'able' else OUTVOTED}"))


@asynccontextmanager
async def served(tmp_path: Path, valkey: EmbeddedValkey, **train: Any) -> AsyncIterator[list[Serving]]:
    """Two replicas whose able member says B and whose poor ones say A."""
    async with Loopback(answer) as provider:
        config = upstream(provider.url)
        config["models"] = {name: {"provider": "up", "model": name} for name in SKILLS}
        config["learning"] = {"train": {"enabled": False, **train}}
        async with replicas(tmp_path, valkey.url, config) as services:
            yield services


async def answers(services: Sequence[Serving]) -> set[str]:
    found = [(await service.client.post("/v1/orchestrations", json=ASKED)).json() for service in services]
    return {one["consensus"]["winner"] for one in found}


async def answered(services: Sequence[Serving], wanted: str, *, within_s: float = 5) -> None:
    async with asyncio.timeout(within_s):
        while await answers(services) != {wanted}:
            await asyncio.sleep(0.05)


async def quorum(valkey: EmbeddedValkey, *words: str) -> tuple[int, str, str]:
    command = [QUORUM, "train", "--redis-url", valkey.url, *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1, env={"COLUMNS": "200", "PATH": ""})
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def put_in_force(state: StateClient) -> list[tuple[str, str, str]]:
    """What the audit trail has of it: the version, the decision, who."""
    rows = [json.loads(line) for _, line in await AuditStore(state).newer("default", 0, 100)]
    return [(row["subject"]["id"], row["decision"], row["actor"]["kind"]) for row in rows if row["action"] == "lessons.use"]


async def test_what_the_command_learns_is_in_force_on_every_replica_and_can_be_taken_back(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    await seeded(state, "default", judged_rows(100))
    async with served(tmp_path, valkey) as services:
        await answered(services, OUTVOTED)
        _, listed, _ = await quorum(valkey, "--dry-run", "--json")
        (dry,) = json.loads(listed)
        assert dry["version"] is None
        assert dry["compared"][0]["taken"]
        assert await answers(services) == {OUTVOTED}

        code, table, said = await quorum(valkey)
        assert code == 0, said
        print(table + said)
        assert "weights" in table
        assert "taken" in table
        assert "is in force" in said
        await answered(services, TRUSTED, within_s=3)

        good = (await LessonStore(state).in_force())["default"]
        misled = judged_rows(200, seed=5, skills={"able": 0.2, "poor": 0.95, "weak": 0.95}, start=1_000)
        await seeded(state, "default", misled)
        assert (await quorum(valkey, "--tenant", "default"))[0] == 0
        await answered(services, OUTVOTED)
        _, versions, _ = await quorum(valkey, "--versions", "--json")
        assert [one["in_force"] for one in json.loads(versions)] == [True, False]
        assert (await quorum(valkey, "--use", good))[0] == 0
        await answered(services, TRUSTED, within_s=3)
        code, _, said = await quorum(valkey, "--use", "l_unknown")
        assert code == 1
        assert good in said
        assert await put_in_force(state) == [
            (good, "done", "cli"),
            ((await LessonStore(state).versions("default"))[0][0], "done", "cli"),
            (good, "begun", "cli"),
            (good, "done", "cli"),
            ("l_unknown", "begun", "cli"),
            ("l_unknown", "failed", "cli"),
        ]


@pytest.mark.timeout(180)
async def test_it_comes_by_itself_once_for_all_replicas(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    await seeded(state, "default", judged_rows(100))
    async with served(tmp_path, valkey, enabled=True, every_s=5) as services:
        await answered(services, TRUSTED, within_s=120)
        assert len(await LessonStore(state).versions("default")) == 1
        metrics = (await services[0].client.get("/metrics")).text
        assert 'quorum_learning_rows{scope="default"} 100' in metrics
        assert await ObservationStore(state).fresh() == {"default": 0}
        async with asyncio.timeout(20):
            while not (told := await put_in_force(state)):
                await asyncio.sleep(0.05)
        assert told == [((await LessonStore(state).versions("default"))[0][0], "done", "service")]


async def test_what_is_judged_after_a_training_is_new_though_its_machine_was_an_hour_ahead(state: StateClient) -> None:
    await seeded(state, "default", judged_rows(100))
    report = await Trainer(state, LearningConfig(), {}, SkewedClock(3600)).train("default")
    assert report.version
    content = await state.commands.hget(learning_keys("default").lessons, report.version)
    assert abs(json.loads(content)["made_at"] - time.time()) < 60


async def test_a_bad_artefact_leaves_the_priors_in_force(tmp_path: Path, valkey: EmbeddedValkey, state: StateClient) -> None:
    await seeded(state, "default", judged_rows(100))
    trainer = Trainer(state, LearningConfig(), {})
    report = await trainer.train("default")
    assert report.version
    keys = learning_keys("default")
    content = await state.commands.hget(keys.lessons, report.version)
    await state.commands.hset(keys.lessons, report.version, content.replace(b'"absent":{', b'"absent":{"x":1.0,'))
    before = BAD_ARTEFACTS.collect()[0].samples[0].value
    async with served(tmp_path, valkey) as services:
        await answered(services, OUTVOTED)
        assert BAD_ARTEFACTS.collect()[0].samples[0].value == before + len(services)


async def test_a_tenant_answers_by_its_own_lessons_and_others_by_what_all_have_judged_once_that_is_learned(
    tmp_path: Path, valkey: EmbeddedValkey, state: StateClient
) -> None:
    await seeded(state, "a", judged_rows(100))
    assert (await Trainer(state, LearningConfig(), {}).train("a")).version
    names = {"a": "sk-a-0123456789abcdef", "b": "sk-b-0123456789abcdef"}
    async with Loopback(answer) as provider:
        config = upstream(provider.url)
        config["models"] = {name: {"provider": "up", "model": name} for name in SKILLS}
        config["keys"] = [{"name": name, "key": key, "tenant": name, "scopes": ["run"]} for name, key in names.items()]
        async with replicas(tmp_path, valkey.url, config, 1) as (service,):

            async def says(tenant: str, wanted: str) -> None:
                async with asyncio.timeout(5):
                    while True:
                        headers = {"Authorization": f"Bearer {names[tenant]}"}
                        found = (await service.client.post("/v1/orchestrations", json=ASKED, headers=headers)).json()
                        if found["consensus"]["winner"] == wanted:
                            return
                        await asyncio.sleep(0.05)

            await says("a", TRUSTED)
            await says("b", OUTVOTED)
            assert (await Trainer(state, LearningConfig(), {}).train(SHARED)).version
            await says("b", TRUSTED)


async def test_what_one_tenant_has_judged_is_not_what_another_learns_from(valkey: EmbeddedValkey, state: StateClient) -> None:
    await seeded(state, "a", judged_rows(100))
    trainer = Trainer(state, LearningConfig(), {})
    assert (await trainer.train("b")).trained.rows == 0
    assert (await trainer.train("a")).version
    assert set(await LessonStore(state).in_force()) == {"a"}


async def test_only_so_many_versions_are_kept(state: StateClient) -> None:
    store = LessonStore(state)
    for number in range(5):
        await store.put("default", f"l_{number}", b"{}", keep=2)
    assert [version for version, _ in await store.versions("default")] == ["l_4", "l_3"]
    assert await state.commands.hlen(learning_keys("default").lessons) == 2
    assert await store.in_force() == {"default": "l_4"}


async def test_one_process_trains_at_a_time(state: StateClient) -> None:
    store = LessonStore(state)
    assert await store.due()
    assert await store.take("one")
    assert not await store.take("two")
    assert not await store.due()
    assert await store.renew("one")
    assert not await store.renew("two")
    await store.give_back("two")
    assert not await store.take("two")
    await store.trained(60)
    await store.give_back("one")
    assert not await store.due()
    assert await store.take("two")
