from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.locks import FileLock
from app.supervisor import WATCH_S
from tests.support.ports import free_port
from tests.support.service import Service, eventually, processes_of, service, workers_of
from tests.support.valkey import server_pid

pytestmark = pytest.mark.timeout(180)

BOTH = pytest.mark.parametrize("workers", [1, 2])


def worker_pids(running: Service, count: int) -> set[int]:
    """The workers that answer, once `count` different ones have."""
    found: set[int] = set()

    def asked() -> bool:
        found.add(running.facts()["pid"])
        return len(found) >= count

    eventually(asked)
    return found


def answers(running: Service) -> bool:
    try:
        return running.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_with_exit_code_0(tmp_path: Path, workers: int, number: signal.Signals) -> None:
    with service(tmp_path, workers=workers, grace_s=0 if number is signal.SIGTERM else 60) as running:
        worker_pids(running, workers)
        assert running.facts()["state"] is True
        assert server_pid(tmp_path) is not None
        running.signal(number)
        assert running.end() == 0
        assert processes_of(tmp_path) == set()
        assert len(list(tmp_path.glob("closed-*"))) == workers
        assert list(tmp_path.glob("run/metrics-*")) == []


@BOTH
def test_it_says_where_it_serves_what_it_serves_and_what_to_try(tmp_path: Path, workers: int) -> None:
    with service(tmp_path, workers=workers) as running:
        assert "providers: tiny" in running.said
        assert "No API key exists" in running.said
        assert f"curl -s {running.url}/v1/orchestrations" in running.said
        running.signal(signal.SIGTERM)
        assert running.end() == 0
        assert running.said.count("serves http") == 1


@BOTH
def test_it_drains_first_serving_on_for_the_grace_period_and_finishing_what_is_under_way(tmp_path: Path, workers: int) -> None:
    with service(tmp_path, workers=workers, grace_s=0.5, drain_s=10) as running:
        answers: list[Any] = []
        slow = threading.Thread(target=lambda: answers.append(running.get("/slow?seconds=1.5")))
        slow.start()
        eventually(lambda: running.get("/readyz").status_code == 200)
        running.signal(signal.SIGTERM)
        eventually(lambda: running.get("/readyz").status_code == 503, within_s=0.5)
        slow.join()
        assert answers[0].json() == "done"
        assert running.end() == 0


def test_what_does_not_finish_in_time_is_cancelled(tmp_path: Path) -> None:
    with service(tmp_path, drain_s=1) as running:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))) as slow:
            slow.sendall(b"GET /slow?seconds=15 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            running.facts()
            running.signal(signal.SIGTERM)
            assert running.end() == 0
        assert 1 <= time.monotonic() - started < 8


def test_a_killed_worker_is_replaced_and_the_others_serve_on(tmp_path: Path) -> None:
    with service(tmp_path, workers=2) as running:
        first = worker_pids(running, 2)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        survivors = worker_pids(running, 2) - first
        eventually(lambda: worker_pids(running, 2) - first)
        assert survivors <= processes_of(tmp_path)
        assert victim not in processes_of(tmp_path)
        assert "SIGKILL" in running.said


def test_a_worker_that_is_killed_while_it_starts_is_replaced_once_another_serves(tmp_path: Path) -> None:
    port = free_port()
    with service(tmp_path, workers=2, factory="tests.support.tiny_app:one_at_once", port=port, ready=False) as running:
        running.url = f"http://127.0.0.1:{port}"  # the one that would tell may be the one that never starts
        eventually(lambda: answers(running))
        (serving,) = worker_pids(running, 1)
        starting = eventually(lambda: set(workers_of(running.process.pid)) - {serving})
        eventually((tmp_path / "started-2").exists)
        os.kill(starting.pop(), signal.SIGKILL)
        assert serving in worker_pids(running, 2)


def test_the_gauges_of_a_killed_worker_are_dropped(tmp_path: Path) -> None:
    with service(tmp_path, workers=2) as running:
        metrics_dir = Path(running.facts()["metrics_dir"])
        assert metrics_dir.parent == tmp_path / "run"
        victim = min(worker_pids(running, 2))
        gauge = metrics_dir / f"gauge_livesum_{victim}.db"
        gauge.touch()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: not gauge.exists())


def test_a_killed_supervisor_takes_its_workers_along_and_its_valkey_is_adopted(tmp_path: Path) -> None:
    with service(tmp_path, workers=2) as running:
        workers = worker_pids(running, 2)
        valkey = server_pid(tmp_path)
        running.signal(signal.SIGKILL)
        running.process.wait()
        eventually(lambda: not workers & processes_of(tmp_path))
        assert server_pid(tmp_path) == valkey
        leftover = list(tmp_path.glob("run/metrics-*"))
        assert len(leftover) == 1
        with service(tmp_path, workers=2) as successor:
            assert server_pid(tmp_path) == valkey
            assert not leftover[0].exists()
            successor.signal(signal.SIGTERM)
            assert successor.end() == 0
            assert server_pid(tmp_path) is None


def test_two_services_share_one_valkey_until_the_last_one_ends(tmp_path: Path) -> None:
    with service(tmp_path) as first, service(tmp_path) as second:
        valkey = server_pid(tmp_path)
        first.signal(signal.SIGTERM)
        assert first.end() == 0
        assert server_pid(tmp_path) == valkey
        assert second.facts()["state"] is True
        second.signal(signal.SIGTERM)
        assert second.end() == 0
        assert server_pid(tmp_path) is None


@BOTH
def test_a_killed_valkey_is_missed_at_once_and_started_again_within_5_seconds(tmp_path: Path, workers: int) -> None:
    with service(tmp_path, workers=workers) as running:
        valkey = server_pid(tmp_path)
        assert valkey is not None
        with FileLock(tmp_path / "valkey" / "starting.lock"):  # it stays away for as long as this is held
            os.kill(valkey, signal.SIGKILL)
            killed = time.monotonic()
            eventually(lambda: running.facts()["state"] is False, within_s=1)
            eventually(lambda: "the embedded Valkey has died" in running.said, within_s=2 * WATCH_S)
        eventually(lambda: running.facts()["state"] is True, within_s=5 - (time.monotonic() - killed))
        assert server_pid(tmp_path) != valkey


@BOTH
def test_sighup_reloads_every_worker(tmp_path: Path, workers: int) -> None:
    with service(tmp_path, workers=workers) as running:
        worker_pids(running, workers)
        running.signal(signal.SIGHUP)
        reloaded: set[int] = set()

        def all_have() -> bool:
            facts = running.facts()
            if facts["reloads"] == 1:
                reloaded.add(facts["pid"])
            return len(reloaded) == workers

        eventually(all_have)


@BOTH
def test_an_application_that_cannot_be_made_ends_the_service_with_the_reason(tmp_path: Path, workers: int) -> None:
    with service(tmp_path, factory="tests.support.tiny_app:broken", workers=workers, ready=False) as running:
        assert running.end() == 1
        assert "broken on purpose" in running.said
        assert "Traceback" not in running.said
        assert processes_of(tmp_path) == set()


def test_a_public_address_is_refused_until_there_is_a_key(tmp_path: Path) -> None:
    with service(tmp_path, host="0.0.0.0", ready=False) as refused:
        assert refused.end() == 1
        assert "refusing to listen on '0.0.0.0'" in refused.said
        assert processes_of(tmp_path) == set()
    with service(tmp_path, host="0.0.0.0", admin_key="a-key-for-the-first-start") as running:
        assert "Authorization: Bearer" in running.said
        assert running.get("/readyz").status_code == 200


def test_a_bad_configuration_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "quorum.yaml").write_text("providers: 7\n")
    with service(tmp_path, ready=False) as running:
        assert running.end() == 1
        assert "quorum.yaml' has 1 fault" in running.said
        assert not (tmp_path / "valkey").exists()


def test_a_taken_port_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with service(tmp_path, port=taken.getsockname()[1], ready=False) as running:
            assert running.end() == 1
            assert "choose another port with --port" in running.said
            assert processes_of(tmp_path) == set()
