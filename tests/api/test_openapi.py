"""The OpenAPI document: its examples run as they stand, and nothing that fits or misses its schemas breaks the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.errors import UnsupportedSchema

from app.api.examples import APPROVALS, ORCHESTRATIONS, REVIEWS, WORKFLOWS
from app.state.embedded import EmbeddedValkey
from tests.support.frames import frames
from tests.support.serving import serving_in_thread

WATCHED = {**ORCHESTRATIONS["tools"]["value"], "stream": True}
BOUNDED = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["name", "steps", "inputs", "tool", "map", "x"]), inner),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, valkey: EmbeddedValkey) -> Iterator[str]:
    with serving_in_thread(tmp_path_factory.mktemp("openapi"), valkey.url) as url:
        calculated = ORCHESTRATIONS["tools"]["value"]
        for _ in APPROVALS:
            httpx.post(f"{url}/v1/orchestrations", json={**calculated, "options": {"approval": "all"}})
        httpx.post(f"{url}/v1/orchestrations", json=WATCHED)  # the newest is not one that waits
        httpx.post(f"{url}/v1/workflows", json=WORKFLOWS["errand"]["value"])
        httpx.post(f"{url}/v1/workflows/errand/runs", json={})  # which waits for the example of a signal
        for _ in REVIEWS:  # each decides one, and feedback is on the newest
            httpx.post(f"{url}/v1/orchestrations", json=ORCHESTRATIONS["consensus"]["value"])
        yield url


def document() -> dict[str, Any]:
    return json.loads(Path(__file__).parents[2].joinpath("openapi", "openapi.json").read_text())


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, op) for path, methods in document()["paths"].items() for method, op in methods.items()]


def filled(path: str, operation: dict[str, Any]) -> str:
    """`path` with the first example of each parameter in it."""
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", next(iter(parameter["examples"].values()))["value"])
    return path


def body_examples() -> list[Any]:
    return [
        pytest.param(method, filled(path, operation), example["value"], id=f"{path}-{name}")
        for method, path, operation in operations()
        for media in [operation.get("requestBody", {}).get("content", {}).get("application/json", {})]
        for name, example in media.get("examples", {}).items()
    ]


@pytest.mark.parametrize(("method", "path", "body"), body_examples())
def test_every_example_runs_as_it_stands(url: str, method: str, path: str, body: dict[str, Any]) -> None:
    if path.startswith("/v1/workflows/"):  # which the example of another test stores, wherever that runs
        httpx.post(f"{url}/v1/workflows", json=WORKFLOWS["greeting"]["value"])
    answer = httpx.request(method, url + path, json=body, timeout=60)
    assert answer.is_success, answer.text
    if body.get("stream"):
        found = frames(answer.text)
        assert found[-1].fields["data"] == "[DONE]" or found[-1].fields["event"] == "run.finished"
    if path == "/v1/providers":
        httpx.delete(f"{url}{path}/{body['name']}")


def test_every_operation_has_an_example_where_it_needs_one() -> None:
    for method, path, operation in operations():
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["examples"], (method, path)
        for parameter in operation.get("parameters", ()):
            assert "examples" in parameter or "example" in parameter, (method, path, parameter["name"])


def test_the_pages_are_served_by_us(url: str) -> None:
    page = httpx.get(f"{url}/docs").text
    assert "https://" not in page
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/docs/{name}" in page
        assert len(httpx.get(f"{url}/docs/{name}").content) > 10_000
    assert httpx.get(f"{url}/openapi.json").json()["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (method, path, mode)
        for method, path, operation in operations()
        for mode in GenerationMode
        if mode is GenerationMode.POSITIVE or "requestBody" in operation
    ],
)
def test_nothing_breaks_the_service(url: str, method: str, path: str, mode: GenerationMode) -> None:
    operation = schemathesis.openapi.from_dict(document())[path][method]
    httpx.post(f"{url}/v1/orchestrations", json=WATCHED)  # who follows the newest run comes to its end

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict):
            case.body.pop("base_url", None)  # its host would be looked up in the network
        answer = case.call(base_url=url, timeout=60)
        assert answer.status_code < 500, f"{case.as_curl_command()}\n{answer.text}"
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == ["application/problem+json"]

    @BOUNDED
    @given(body=ANY_JSON)
    def check_any_json(body: Any) -> None:
        answer = httpx.request(method, url + filled(path, document()["paths"][path][method]), json=body, timeout=60)
        assert answer.status_code < 500, f"{body}\n{answer.text}"
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"

    try:
        check()
    except UnsupportedSchema:  # one that holds itself, as an action of a workflow does, is not negated
        assert mode is GenerationMode.NEGATIVE
        check_any_json()
