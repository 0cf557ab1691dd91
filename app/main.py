"""The application: `create_app(settings)` gives an ASGI application with every route."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from app.api import docs
from app.api.edge import Edge
from app.api.errors import answer_error
from app.api.idempotency.middleware import Idempotency
from app.api.routes import (
    approvals,
    audit,
    batches,
    breakers,
    catalogue,
    chat,
    conversations,
    embeddings,
    jobs,
    learning,
    operations,
    orchestrations,
    providers,
    reviews,
    runs,
    signals,
    tools,
    workflows,
)
from app.config.settings import Settings
from app.container import Container
from app.core.clock import Clock
from app.core.errors import QuorumError
from app.observability import logs

ROUTERS = (
    chat.router,
    embeddings.router,
    orchestrations.router,
    runs.router,
    signals.router,
    conversations.router,
    jobs.router,
    batches.uploads,
    batches.router,
    learning.router,
    reviews.router,
    approvals.router,
    tools.router,
    workflows.router,
    catalogue.router,
    providers.router,
    breakers.router,
    audit.router,
    operations.router,
)

TELEMETRY: Final[TelemetryConfig] = {"metrics": False, "logs": False}
"""What the framework tells OpenTelemetry of requests by itself: spans, where the process traces. What it counts and logs is
counted and logged here, and its log would hold what was wrong with a request in the request's own words."""


def create_app(settings: Settings, *, clock: Clock | None = None) -> FastAPI:
    """The service as one worker runs it. `clock` is the machine's.

    Raises:
        ConfigError: settings or configuration are wrong.
    """
    logs.configure(settings.log_level, None if settings.log_format == "auto" else settings.log_format)
    container = Container(settings, clock=clock)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with container.run() as services:
            app.state.services = services
            app.state.summary = container.summary()
            yield

    app = FastAPI(
        lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, telemetry=TELEMETRY
    )
    app.state.draining = container.services.draining
    app.state.reload = container.reload_on_signal
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    docs.install(app, version("quorum"))
    for kind in (QuorumError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer_error)
    app.add_middleware(
        Edge,
        max_header_bytes=lambda: container.services.engine.spec.limits.max_header_bytes,
        draining=container.services.draining,
        keyed=lambda routes: Idempotency(routes, app, container.executions),
    )
    return app
