"""A Redis Cluster of six and a Sentinel trio from Debian's `redis-server`, on loopback.

`sentinel_trio()` and `cluster_of_six()` give their URL and their processes. Any test module runs on one of them with its URL in
`QUORUM_TEST_REDIS_URL`: the `valkey` fixtures give that in place of an embedded server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.needs import needs
from tests.support.ports import free_ports

URL_VARIABLE = "QUORUM_TEST_REDIS_URL"
PROMPT_MS = 500
PATIENT_MS = 5_000
"""Where nobody is killed: a server that is slow on a busy machine stays what it is."""
_READY_S = 20.0


@dataclass
class RedisServers:
    """Several servers. `url` is where the service finds them; `processes` are by port."""

    url: str
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict[int, "subprocess.Popen[bytes]"])

    def kill(self, port: int) -> None:
        self.processes[port].send_signal(signal.SIGKILL)
        self.processes[port].wait(10)


@contextmanager
def sentinel_trio(down_after_ms: int = PROMPT_MS) -> Iterator[RedisServers]:
    """A primary, two replicas, three sentinels that fail over `down_after_ms` after they have lost it."""
    with _servers("redis+sentinel://") as (servers, start, directory):
        primary, one, two, *sentinels = free_ports(6)
        start(primary)
        for replica in (one, two):
            start(replica, "--replicaof", "127.0.0.1", str(primary))
        for port in sentinels:
            path = directory / f"sentinel-{port}.conf"
            path.write_text(
                f"port {port}\nbind 127.0.0.1\nsentinel monitor quorum 127.0.0.1 {primary} 2\n"
                f"sentinel down-after-milliseconds quorum {down_after_ms}\nsentinel failover-timeout quorum 3000\n"
            )
            start(port, str(path), "--sentinel", plain=False)
        servers.url += ",".join(f"127.0.0.1:{port}" for port in sentinels) + "/quorum"
        watching = [redis.Redis(port=port, decode_responses=True) for port in sentinels]
        _until(lambda: all(_knows(sentinel) for sentinel in watching))
        yield servers


@contextmanager
def cluster_of_six(down_after_ms: int = PROMPT_MS) -> Iterator[RedisServers]:
    """Three primaries with a replica each, which takes over `down_after_ms` after it has lost them."""
    with _servers("redis+cluster://") as (servers, start, _):
        ports = free_ports(6)
        for port in ports:
            options = ("--cluster-enabled", "yes", "--cluster-replica-validity-factor", "0")
            options += ("--cluster-node-timeout", str(down_after_ms))
            start(port, *options, "--cluster-config-file", f"nodes-{port}.conf")
        nodes = [redis.Redis(port=port, decode_responses=True) for port in ports]
        for number, node in enumerate(nodes[:3]):
            first = 16384 * number // 3
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, 16384 * (number + 1) // 3 - 1)
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            node.execute_command("CLUSTER MEET", "127.0.0.1", ports[0])
        _until(lambda: all(node.cluster("INFO")["cluster_known_nodes"] == "6" for node in nodes))
        for primary, replica in zip(nodes[:3], nodes[3:], strict=True):
            replica.execute_command("CLUSTER REPLICATE", primary.execute_command("CLUSTER MYID"))
        _until(lambda: all(node.cluster("INFO")["cluster_state"] == "ok" for node in nodes))
        _until(lambda: all(node.info("replication")["connected_slaves"] == 1 for node in nodes[:3]))
        servers.url += ",".join(f"127.0.0.1:{port}" for port in ports[:3])
        yield servers


def _knows(sentinel: redis.Redis) -> bool:
    primary = sentinel.sentinel_master("quorum")
    return primary["num-slaves"] == 2 and primary["num-other-sentinels"] == 2


@contextmanager
def _servers(scheme: str) -> Iterator[tuple[RedisServers, Callable[..., None], Path]]:
    program = needs("redis-server")
    servers = RedisServers(scheme)
    with tempfile.TemporaryDirectory(prefix="quorum-redis-") as name:

        def start(port: int, *options: str, plain: bool = True) -> None:
            own = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no") if plain else ()
            path = Path(name, f"{port}.log")
            with path.open("wb") as log:
                process = servers.processes[port] = subprocess.Popen(
                    [program, *options[:1], *own, *options[1:]] if not plain else [program, *own, *options],
                    cwd=name,
                    stdout=log,
                    stderr=log,
                )
            _until(lambda: _answers(port, process, path))

        try:
            yield servers, start, Path(name)
        finally:
            for process in servers.processes.values():
                process.kill()
                process.wait(10)


def _answers(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether a server is up: one of a cluster listens before it knows whether it can have its second port."""
    assert process.poll() is None, f"the server on {port} has ended: {log.read_text()[-1_000:]}"
    with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as connection:
        try:
            return bool(connection.ping())
        except redis.exceptions.ConnectionError:
            return False


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _READY_S
    while not true():
        assert time.monotonic() < deadline, "the servers are not ready"
        time.sleep(0.02)


def external_url() -> str | None:
    """The Redis that the tests are to use instead of an embedded one."""
    return os.environ.get(URL_VARIABLE)
