"""`quorum worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.options import Config, DataDir, RedisUrl


def worker(
    config: Config = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port of 127.0.0.1; without it nowhere."),
    ] = None,
) -> None:
    """Do what waits in the queue, as background runs, until Ctrl-C or SIGTERM. SIGHUP reloads the configuration.

    As many as one likes, on any machine with the same Redis, QUORUM_SECRET and configuration. While one is there, servers leave
    the work to it.
    """
    from app.cli.working import work
    from app.config.settings import load_settings

    work(load_settings(config=config, redis_url=redis_url, data_dir=data_dir), metrics_port=metrics_port)
