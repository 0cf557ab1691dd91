"""JSON logs on standard output (or coloured lines on a terminal). Prompts, answers and secrets are never logged."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import orjson
import structlog


def configure(level: str = "info", form: Literal["json", "console"] | None = None) -> None:
    """Set up logging for the process.

    Parameters:
        level: the least that is logged, as `debug`, `info`, `warning`, `error`.
        form: `json` or `console`; without it, console on a terminal.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    if form == "console" or (form is None and sys.stdout.isatty()):
        processors = [*shared, stamp, structlog.dev.ConsoleRenderer()]
        factory: Any = structlog.PrintLoggerFactory()
    else:
        render = structlog.processors.JSONRenderer(serializer=orjson.dumps, default=str)
        processors = [*shared, stamp, structlog.processors.format_exc_info, render]
        factory = structlog.BytesLoggerFactory(sys.stdout.buffer)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")


def configure_embedded() -> None:
    """Set up logging where Quorum is a library in somebody else's process: warnings and worse, on standard error.

    Whoever has configured structlog before keeps what is configured.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
