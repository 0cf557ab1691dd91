from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.state.embedded import EmbeddedValkey
from tests.support.loopback import Answer, Loopback, as_json
from tests.support.needs import needs
from tests.support.openai_wire import completion
from tests.support.service import eventually
from tests.support.service import service as process
from tests.support.serving import AT_ONCE, Serving, serving, until, upstream
from tests.support.valkey import running_valkey, server_pid

RUN = {"input": "Hi", "strategy": "direct"}


def counted(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of `name` with these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_health(service: Serving) -> None:
    assert (await service.client.get("/healthz")).json() == {"status": "ok"}
    assert (await service.client.get("/readyz")).json() == {"status": "ready", "state": "ok"}


async def test_a_draining_service_is_not_ready_and_still_answers(service: Serving) -> None:
    service.app.state.draining.begin()
    answer = await service.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert (await service.client.post("/v1/orchestrations", json=RUN)).status_code == 200


async def test_without_the_state_store_it_is_degraded_and_calls_go_on(tmp_path: Path) -> None:
    with running_valkey() as valkey:
        async with serving(tmp_path, valkey.url) as service:
            pid = server_pid(valkey.data_dir)
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            answer = await service.client.get("/readyz")
            assert answer.status_code == 200
            assert answer.json() == {"status": "degraded", "state": "away"}
            assert (await service.client.post("/v1/orchestrations", json=RUN)).status_code == 200
            refused = await service.client.post("/v1/providers", json={"name": "more", "kind": "mock"})
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "state_unavailable"
            os.kill(pid, signal.SIGCONT)
            assert (await service.client.get("/readyz")).json()["status"] == "ready"


async def test_models_and_strategies(service: Serving) -> None:
    models = {model["id"]: model for model in (await service.client.get("/v1/models")).json()["data"]}
    terse = models["mock/mock-terse"]
    assert terse["kind"] == "model"
    assert terse["capabilities"]["tools"] is True
    assert terse["priced"] is True
    assert 0.5 in terse["price_per_mtok"].values()
    assert models["quorum/simple"]["kind"] == "strategy"
    listed = (await service.client.get("/v1/strategies")).json()["data"]
    assert {"direct", "simple"} <= {strategy["id"] for strategy in listed}
    for strategy in listed:
        assert strategy["model"] in models
        assert strategy["options"]["type"] == "object"


async def test_what_is_counted(service: Serving) -> None:
    before = (await service.client.get("/metrics")).text
    await service.client.post("/v1/orchestrations", json=RUN)
    await service.client.post("/v1/orchestrations", json={**RUN, "stream": True})
    await service.client.post("/v1/orchestrations", json={**RUN, "nonsense": 1})
    await service.client.get("/nowhere/at/all")
    await service.client.get("/v1/models/mock/mock-terse")
    answer = await service.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")

    def more(name: str, **labels: str) -> float:
        return counted(answer.text, name, **labels) - counted(before, name, **labels)

    requests = "quorum_http_requests_total"
    assert more(requests, route="/v1/orchestrations", method="POST", status="200") == 2
    assert more(requests, route="/v1/orchestrations", method="POST", status="400") == 1
    assert more(requests, route="/v1/models/{name:path}", status="200") == 1
    assert more(requests, route="other", status="404") == 1
    assert "/nowhere" not in answer.text
    assert more("quorum_runs_total", strategy="direct", status="succeeded") == 2
    assert more("quorum_candidates_total", status="succeeded") == 2
    assert more("quorum_attempts_total", outcome="ok") == 2
    assert more("quorum_tokens_total", kind="output") > 0
    assert more("quorum_cost_usd_total") > 0
    assert counted(answer.text, "quorum_open_streams") == 0


async def test_a_run_whose_reader_left_is_counted_as_cancelled(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with Loopback(Answer(delay_s=60)) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:

        async def cancelled() -> float:
            return counted((await service.client.get("/metrics")).text, "quorum_runs_total", status="cancelled")

        before = await cancelled()
        with pytest.raises(httpx.ReadTimeout):
            await service.client.post("/v1/orchestrations", json={**RUN, "models": ["m"]}, timeout=0.1)
        await until(lambda: provider.open == 0)
        assert await cancelled() == before + 1


async def test_promtool_accepts_the_metrics(service: Serving) -> None:
    promtool = needs("promtool")
    await service.client.post("/v1/orchestrations", json=RUN)
    text = (await service.client.get("/metrics")).text
    checked = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_four_workers_count_a_thousand_requests_as_a_thousand(tmp_path: Path) -> None:
    (tmp_path / "quorum.yaml").write_text(yaml.safe_dump({"providers": {"mock": AT_ONCE}}))
    with process(tmp_path, factory="app.main:create_app", workers=4, log_level="error") as running:
        with httpx.Client() as client, ThreadPoolExecutor(16) as pool:

            def ask(_number: int) -> int:
                return client.post(f"{running.url}/v1/orchestrations", json=RUN, timeout=30).status_code

            assert set(pool.map(ask, range(1000))) == {200}
        text = running.get("/metrics").text
        assert counted(text, "quorum_http_requests_total", route="/v1/orchestrations", status="200") == 1000
        assert counted(text, "quorum_runs_total", strategy="direct", status="succeeded") == 1000
        assert "pid=" not in text
        running.signal(signal.SIGTERM)
        assert running.end() == 0


def with_models(*names: str) -> dict[str, Any]:
    return {"providers": {"mock": AT_ONCE}, "models": {name: {"provider": "mock", "model": "mock-terse"} for name in names}}


async def names(service: Serving) -> set[str]:
    listed = (await service.client.get("/v1/models")).json()["data"]
    return {model["id"] for model in listed if model["kind"] == "model"}


async def test_a_reload_is_in_force_for_new_requests(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    async with serving(tmp_path, valkey.url, with_models("a")) as service:
        assert await names(service) == {"a"}
        service.configure({**with_models("b"), "recipes": {"both": {"strategy": "simple", "models": ["b"]}}})
        assert await names(service) == {"a"}
        answer = await service.client.post("/v1/admin/reload")
        assert answer.status_code == 200
        assert answer.json()["models"] == 1
        assert await names(service) == {"b"}
        good = {"model": "both", "messages": [{"role": "user", "content": "Hi"}]}
        assert (await service.client.post("/v1/chat/completions", json=good)).status_code == 200
        assert (await service.client.post("/v1/chat/completions", json={**good, "model": "a"})).status_code == 404


@pytest.mark.parametrize(
    ("bad", "faults"),
    [
        ("providers:\n  mock:\n    kind: mock\nmodels:\n  a: {provider: nobody, model: x}\n", ["quorum.yaml:5:"]),
        ("providers: [\n", ["quorum.yaml:"]),
        ("providers:\n  mock:\n    kind: mick\nlimts: {}\n", ["quorum.yaml:3:", "quorum.yaml:4:"]),
        ("recipes:\n  r:\n    strategy: simple\n    options:\n      layers: 99\n", ["quorum.yaml:5:"]),
        ("recipes:\n  r:\n    strategy: nope\n", ["quorum.yaml:3:"]),
    ],
)
async def test_a_bad_file_is_refused_whole_with_its_lines(
    tmp_path: Path, valkey: EmbeddedValkey, bad: str, faults: list[str]
) -> None:
    async with serving(tmp_path, valkey.url, with_models("a")) as service:
        service.configure(bad)
        answer = await service.client.post("/v1/admin/reload")
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "config_invalid"
        for fault in faults:
            assert fault in answer.json()["detail"]
        assert await names(service) == {"a"}
        service.configure(with_models("a", "c"))
        assert (await service.client.post("/v1/admin/reload")).status_code == 200
        assert await names(service) == {"a", "c"}


async def test_a_run_under_way_keeps_what_it_began_with(tmp_path: Path, valkey: EmbeddedValkey) -> None:
    slow = as_json(completion("late"))
    slow.gap_s = 0.2
    slow.cuts = [5]
    async with Loopback(slow) as provider, serving(tmp_path, valkey.url, upstream(provider.url)) as service:
        run = asyncio.create_task(service.client.post("/v1/orchestrations", json={**RUN, "models": ["m"]}))
        await until(lambda: provider.received)
        service.configure(with_models("a"))
        assert (await service.client.post("/v1/admin/reload")).status_code == 200
        assert (await run).json()["output"]["text"] == "late"


def test_sighup_reloads(tmp_path: Path) -> None:
    config = tmp_path / "quorum.yaml"
    config.write_text(yaml.safe_dump(with_models("a")))
    with process(tmp_path, factory="app.main:create_app", log_level="error") as running:

        def listed() -> set[str]:
            return {model["id"] for model in running.get("/v1/models").json()["data"] if model["kind"] == "model"}

        assert listed() == {"a"}
        config.write_text(yaml.safe_dump(with_models("b")))
        running.signal(signal.SIGHUP)
        eventually(lambda: listed() == {"b"})
        running.signal(signal.SIGTERM)
        assert running.end() == 0
