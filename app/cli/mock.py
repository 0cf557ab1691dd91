"""`quorum mock`."""

from __future__ import annotations

from typing import Annotated

import typer


def mock(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8001,
) -> None:
    """Serve made-up models in the OpenAI, Anthropic and Gemini dialects, with latency and faults on demand."""
    from app.listening import bind, urls
    from app.providers.mock.server import create_mock_app
    from app.worker import run, serve

    sockets = bind(host, port)
    where = " and ".join(urls(sockets))
    run(
        serve(
            create_mock_app(),
            sockets,
            grace_s=0.0,
            drain_s=1.0,
            on_ready=lambda: typer.echo(f"Mock models at {where}", err=True),
        )
    )
