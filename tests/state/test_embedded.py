from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import redis

from app.core.errors import StateUnavailable
from app.state.client import StateClient
from app.state.embedded import LONGEST_SOCKET_PATH, EmbeddedValkey
from tests.support.valkey import server_pid

HOLDER = """
import sys
import tempfile
from pathlib import Path
from app.state.embedded import EmbeddedValkey
server = EmbeddedValkey(Path(sys.argv[1]))
server.start()
print("started", flush=True)
sys.stdin.read()
server.stop()
"""


def client(server: EmbeddedValkey) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.socket), decode_responses=True)


def holder(data_dir: Path) -> subprocess.Popen[str]:
    """Another process that uses the server until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def leave(process: subprocess.Popen[str]) -> int:
    process.communicate()
    return process.returncode


def test_it_listens_on_a_private_socket_only_and_evicts_nothing(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server, client(server) as redis_client:
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
        assert redis_client.config_get("port") == {"port": "0"}
        assert redis_client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert redis_client.config_get("appendonly") == {"appendonly": "yes"}


def test_what_was_written_is_there_after_stop_and_start(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server, client(server) as redis_client:
        redis_client.set("colour", "blue")
    assert server_pid(tmp_path) is None
    assert not server.socket.exists()
    with EmbeddedValkey(tmp_path) as server, client(server) as redis_client:
        assert redis_client.get("colour") == "blue"


def test_a_second_user_adopts_the_server_and_the_last_one_to_leave_stops_it(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as first:
        pid = server_pid(tmp_path)
        second = holder(tmp_path)
        assert server_pid(tmp_path) == pid
        assert leave(second) == 0
        assert server_pid(tmp_path) == pid
        third = holder(tmp_path)
        first.stop()
        assert server_pid(tmp_path) == pid
        assert leave(third) == 0
        assert server_pid(tmp_path) is None
        first.start()


def test_it_outlives_the_kill_of_its_starter_and_is_adopted_and_stopped_by_the_next(tmp_path: Path) -> None:
    starter = holder(tmp_path)
    pid = server_pid(tmp_path)
    starter.kill()
    starter.communicate()
    assert server_pid(tmp_path) == pid
    with EmbeddedValkey(tmp_path):
        assert server_pid(tmp_path) == pid
    assert server_pid(tmp_path) is None


def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path) as server:
        pid = server_pid(tmp_path)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while server.alive():
            pass
        assert server.socket.exists()
        server.start()
        assert server.alive()
        with client(server) as redis_client:
            assert redis_client.ping()
        assert server_pid(tmp_path) != pid


def test_processes_that_start_together_share_one_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
    log = (tmp_path / "valkey" / "valkey.log").read_text()
    assert [leave(process) for process in processes] == [0, 0, 0, 0]
    assert log.count("Ready to accept connections") == 1
    assert server_pid(tmp_path) is None


async def test_a_path_too_long_for_a_socket_gets_a_short_one_of_the_users_own(tmp_path: Path) -> None:
    data_dir = tmp_path / ("long" * 30)
    with EmbeddedValkey(data_dir) as server:
        assert len(os.fsencode(server.socket)) <= LONGEST_SOCKET_PATH
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        assert await reached(server.url)
    assert not server.socket.exists()


async def test_a_path_with_odd_characters_works() -> None:
    with tempfile.TemporaryDirectory() as directory, EmbeddedValkey(Path(directory, 'it\'s 100% "odd"?')) as server:
        assert server.socket == server.data_dir / "valkey.sock"
        assert await reached(server.url)


async def reached(url: str) -> bool:
    state = StateClient(url)
    try:
        return await state.ping()
    finally:
        await state.close()


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnavailable, match=r"file/data' cannot be used .*--data-dir"):
        EmbeddedValkey(tmp_path / "file" / "data").start()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "valkey" / "appendonlydir"
    broken.mkdir(parents=True)
    (broken / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(StateUnavailable, match=r"ended while starting.*Invalid AOF manifest"):
        EmbeddedValkey(tmp_path).start()
