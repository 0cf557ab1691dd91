"""`quorum serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.options import Config, DataDir, RedisUrl


def serve(
    host: Annotated[
        str | None, typer.Option(envvar="QUORUM_HOST", help="The address to listen on; without it 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(envvar="QUORUM_PORT", min=0, max=65535, help="The port; without it 8000, 0 takes a free one.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(envvar="QUORUM_WORKERS", min=1, max=256, help="Processes that serve; without it 1.")
    ] = None,
    config: Config = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", envvar="QUORUM_INSECURE", help="Listen on a public address without any API key."),
    ] = None,
) -> None:
    """Run the service until Ctrl-C or SIGTERM. SIGHUP reloads the configuration.

    All other settings are environment variables, as the README lists them.
    """
    from app.config.settings import load_settings
    from app.supervisor import serve as run

    run(
        load_settings(
            host=host,
            port=port,
            workers=workers,
            config=config,
            redis_url=redis_url,
            data_dir=data_dir,
            insecure=insecure,
        )
    )
