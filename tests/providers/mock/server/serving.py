"""A mock server on an ephemeral port, in a thread of its own, for SDKs that block."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn

from app.providers.mock.server import create_mock_app


@contextlib.contextmanager
def mock_server() -> Iterator[str]:
    """The base URL of a server whose personas answer at once."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_mock_app(latency_scale=0), log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listening]),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
