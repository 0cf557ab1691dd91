"""A run says which of the tools that were asked for its models are not offered, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.ports import free_port
from tests.support.serving import AT_ONCE, Serving, serving

pytestmark = pytest.mark.usefixtures("state")
CONFIG: dict[str, Any] = {
    "providers": {"mock": AT_ONCE},
    "models": {"fast": {"provider": "mock", "model": "mock-swift"}, "careful": {"provider": "mock", "model": "mock-careful"}},
    "tools": {
        "hosts": ["api.example.com"],
        "http": {"order": {"description": "Orders.", "method": "POST", "url": "https://api.example.com/"}},
        "permissions": [{"name": "no-clocks", "effect": "deny", "tools": ["clock"]}],
    },
}
NOT_ALLOWED = (
    "the tool 'order' is not offered: no rule allows 'order@1.0.0'; "
    "add one to tools.permissions, such as {effect: allow, tools: [order], tenants: [default]}"
)


@pytest.fixture
async def service(tmp_path: Path, valkey: EmbeddedValkey) -> AsyncIterator[Serving]:
    away = {"web": {"url": f"http://127.0.0.1:{free_port()}/mcp"}}
    config = {**CONFIG, "tools": {**CONFIG["tools"], "mcp": away}}
    async with serving(tmp_path, valkey.url, config) as running:
        yield running


async def ran(service: Serving, tools: list[str] | None, status: int = 200, **body: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"tools": tools, **body.pop("options", {})} if tools is not None else {}
    sent = {
        "input": "What is it? Use the calculator: 2 + 3",
        "strategy": "tools",
        "models": ["fast"],
        "options": options,
        **body,
    }
    answer = await service.client.post("/v1/orchestrations", json=sent)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_tool_that_is_named_and_not_permitted(service: Serving) -> None:
    result = await ran(service, ["calculator", "order", "clock@1"])
    assert result["warnings"] == [NOT_ALLOWED, "the tool 'clock' is not offered: 'no-clocks' denies 'clock@1.0.0'"]


async def test_those_that_are_not_named_are_left_out_silently(service: Serving) -> None:
    for tools in (None, ["*"], ["c*", "ord*"]):
        assert (await ran(service, tools))["warnings"] == []


async def test_a_pattern_that_fits_nothing(service: Serving) -> None:
    result = await ran(service, ["calculator", "calk*"])
    assert result["warnings"] == ["'calk*' in options.tools fits no tool"]


async def test_a_pattern_for_the_tools_of_a_server_that_is_away(service: Serving) -> None:
    [warning] = (await ran(service, ["web__*"]))["warnings"]
    assert warning.startswith("'web__*' in options.tools fits no tool: its MCP server is ")


async def test_in_a_panel_it_is_told_once(service: Serving) -> None:
    result = await ran(service, ["calculator", "order"], strategy="consensus", models=["fast", "careful"])
    assert result["warnings"].count(NOT_ALLOWED) == 1


async def test_a_run_that_waited_for_a_person_tells_it_once(service: Serving) -> None:
    waiting = await ran(service, ["calculator", "order"], 202, options={"approval": "all"})
    path = f"/v1/orchestrations/{waiting['id']}"
    async with service.client.stream("GET", f"{path}/events", timeout=20) as events:
        decided = await service.client.post(f"/v1/approvals/{waiting['approvals'][0]['id']}", json={"decision": "approve"})
        assert decided.status_code == 200, decided.text
        await events.aread()
    result = (await service.client.get(path)).json()
    assert (result["status"], result["warnings"]) == ("succeeded", [NOT_ALLOWED])
