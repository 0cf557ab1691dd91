"""The official JavaScript SDK as a client of ours (reliability test 10); what it does is in `tests/js/sdk.mjs`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.needs import needs, needs_installed
from tests.support.serving import AT_ONCE, serving_in_thread

SCRIPTS = Path(__file__).parents[1] / "js"
KEY = "sk-runner-0123456789"
KEEP_ALIVE_S = 0.05
CONFIG = {
    "providers": {"mock": AT_ONCE},
    "models": {
        "swift": {"provider": "mock", "model": "mock-swift"},
        "careful": {"provider": "mock", "model": "mock-careful"},
    },
    "recipes": {"panel": {"strategy": "simple", "models": ["swift", "careful"], "lead_model": "careful"}},
    "keys": [{"name": "runner", "key": KEY}],
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, valkey: EmbeddedValkey) -> dict[str, Any]:
    """What the SDK saw, by scenario."""
    node = needs("node")
    needs_installed(SCRIPTS / "node_modules" / "openai", "npm ci --prefix tests/js")
    directory = tmp_path_factory.mktemp("js")
    with serving_in_thread(directory, valkey.url, CONFIG, keep_alive_s=KEEP_ALIVE_S) as url:
        done = subprocess.run(
            [node, "sdk.mjs", f"{url}/v1", KEY], cwd=SCRIPTS, capture_output=True, text=True, timeout=60, check=False
        )
        asked = {
            "model": "swift",
            "stream": True,
            "messages": [{"role": "user", "content": "What is 6 * 7? [[mock: chunk=120]]"}],
        }
        raw = httpx.post(f"{url}/v1/chat/completions", json=asked, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"raw": raw.text}


def test_a_stream_says_what_create_says(seen: dict[str, Any]) -> None:
    whole, stream = seen["create"], seen["stream"]
    assert stream["text"] == whole["text"] != ""
    assert stream["usage"] == whole["usage"]
    assert stream["finish"] == "stop"
    assert stream["strategy"] == whole["strategy"] == "simple"


def test_comments_between_the_chunks_are_passed_over(seen: dict[str, Any]) -> None:
    assert "\n: keep-alive\n" in f"\n{seen['raw']}"
    assert seen["keepAlive"]["text"]
    assert seen["keepAlive"]["finish"] == "stop"


def test_tools_in_parallel(seen: dict[str, Any]) -> None:
    assert seen["tools"] == {"whole": ["Paris", "Oslo"], "streamed": ["Paris", "Oslo"]}


def test_json_schema(seen: dict[str, Any]) -> None:
    assert isinstance(seen["schema"]["capital"], str)


@pytest.mark.parametrize("streamed", ["false", "true"])
@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        ("invalid_request", "BadRequestError", 400),
        ("rate_limited", "RateLimitError", 429),
        ("overloaded", "InternalServerError", 503),
        ("server_error", "InternalServerError", 502),
    ],
)
def test_a_providers_failure_is_the_right_exception(
    seen: dict[str, Any], fault: str, kind: str, status: int, streamed: str
) -> None:
    error = seen["failures"][f"{fault} {streamed}"]
    assert (error["kind"], error["status"]) == (kind, status)
    assert "provider 'mock'" in error["message"]


@pytest.mark.parametrize("fault", ["truncate:2", "midstream-error:2", "connection:2"])
def test_a_stream_that_breaks_raises(seen: dict[str, Any], fault: str) -> None:
    assert seen["broken"][fault]["kind"] == "APIError"
    assert "provider 'mock'" in seen["broken"][fault]["message"]


def test_it_does_not_repeat_what_we_say_is_final(seen: dict[str, Any]) -> None:
    assert seen["repeated"] == 1


def test_models(seen: dict[str, Any]) -> None:
    assert {"swift", "careful", "panel", "quorum/simple"} <= set(seen["models"])
