"""The smallest application that a worker can serve, for tests of the processes around it."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Response

from app.config.settings import Settings
from app.core.errors import ConfigError
from app.core.lifecycle import Draining
from app.state.client import StateClient


def create_app(settings: Settings) -> FastAPI:
    assert settings.redis_url is not None
    state = StateClient(settings.redis_url.get_secret_value())
    closed = Path(settings.data_dir, f"closed-{os.getpid()}")
    reloads = 0

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.summary = "providers: tiny"
        yield
        await state.close()
        closed.touch()  # noqa: ASYNC240 (an instant, at the end)

    app = FastAPI(lifespan=lifespan)
    app.state.draining = Draining()

    async def reload() -> None:
        nonlocal reloads
        reloads += 1

    app.state.reload = reload

    @app.get("/facts")
    async def facts() -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "reloads": reloads,
            "state": await state.ping(),
            "metrics_dir": os.environ.get("PROMETHEUS_MULTIPROC_DIR"),
        }

    @app.get("/readyz")
    async def ready() -> Response:
        return Response(status_code=503 if app.state.draining.begun else 200)

    @app.get("/slow")
    async def slow(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    return app


def broken(settings: Settings) -> FastAPI:
    raise ConfigError("the tiny app is broken on purpose", faults=("line 1: wrong",))


def one_at_once(settings: Settings) -> FastAPI:
    """The first worker is ready at once, the second never, those after them at once again."""
    number = next(number for number in itertools.count(1) if _taken(Path(settings.data_dir, f"started-{number}")))
    app = create_app(settings)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if number == 2:
            await asyncio.Event().wait()
        async with inner(app):
            yield

    app.router.lifespan_context = lifespan
    return app


def _taken(path: Path) -> bool:
    """Whether this process is the first to make it."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
