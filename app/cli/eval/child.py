"""The process of an embedded service: `quorum serve`, which ends when the evaluation does, however that ended."""

from __future__ import annotations

import os
import signal
import sys
import threading


def main() -> None:
    """Serve until SIGTERM, or until the other end of standard input is gone: its holder has died."""
    threading.Thread(target=_lifeline, daemon=True).start()
    from app.cli import main

    main()


def _lifeline() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
