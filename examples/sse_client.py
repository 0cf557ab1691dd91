"""Quorum's own event stream, read with httpx: every model's words as they come, then the answer.

    make run                              # in another terminal
    python examples/sse_client.py "Is 97 a prime number?"

QUORUM_URL and QUORUM_API_KEY name another service and its key.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import httpx

URL = os.environ.get("QUORUM_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("QUORUM_API_KEY")


def events(question: str) -> Iterator[dict[str, Any]]:
    """The run's events, each a JSON object with `type`, `run_id` and `seq`. Lines that begin with `:` keep it alive."""
    headers = {"authorization": f"Bearer {KEY}"} if KEY else {}
    body = {"input": question, "options": {"analysis": "comparative"}, "stream": True}
    with httpx.stream("POST", f"{URL}/v1/orchestrations", json=body, headers=headers, timeout=60) as answer:
        if answer.is_error:
            sys.exit(json.loads(answer.read())["error"]["message"])
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def main(question: str) -> None:
    for event in events(question):
        match event["type"]:
            case "candidate.delta":
                print(f"{event['model']:>14} | {event['text']!r}")
            case "candidate.finished":
                print(f"{event['candidate']['model']:>14} | done, {event['candidate']['latency_ms']:.0f} ms")
            case "candidate.failed":
                print(f"{event['candidate']['model']:>14} | failed: {event['candidate']['error']['message']}")
            case "analysis.finished":
                print(f"{'analysis':>14} | {event['analysis']['text']}")
            case "output.delta":
                print(f"{'answer':>14} | {event['text']!r}")
            case "run.finished":
                result = event["result"]
                print(f"\n{result['output']['text']}\n{result['timing']['total_ms']:.0f} ms, ${result['cost_usd']}")
            case "run.failed":
                sys.exit(event["error"]["message"])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "Is 97 a prime number?")
