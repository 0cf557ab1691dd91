"""Options that several commands share. Each is also an environment variable of the service's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="QUORUM_CONFIG", help="The configuration; without it ./quorum.yaml where there is one."
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        envvar="QUORUM_REDIS_URL",
        help="Redis or Valkey (redis://, rediss://, unix://); without it an embedded Valkey is started.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", envvar="QUORUM_DATA_DIR", help="Where the embedded Valkey and the secret are kept.", show_default=False
    ),
]
