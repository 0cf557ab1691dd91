"""Swagger UI in a real browser, without internet: every request in it runs as it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

from app.api.examples import ORCHESTRATIONS, WORKFLOWS
from app.state.embedded import EmbeddedValkey
from tests.support.needs import needs
from tests.support.serving import Serving, serving
from tests.support.valkey import running_valkey


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Serving]:
    with running_valkey() as valkey:
        assert isinstance(valkey, EmbeddedValkey)
        config = {"providers": {"mock": {"kind": "mock", "options": {"latency_scale": 0}}}}
        async with serving(tmp_path, valkey.url, config) as running:
            yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    program = needs("chromium")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        await running.close()


async def executed(page: Page, block: str) -> int:
    """Press Execute in the operation `block` as it stands, and give the status that the page shows."""
    operation = page.locator(f"#{block}")
    await operation.locator(".opblock-summary").first.click()
    await operation.locator("button.execute").click()
    shown = operation.locator(".live-responses-table .response-col_status").last
    await shown.wait_for(timeout=20_000)
    status = int((await shown.inner_text()).split()[0])
    await operation.locator(".opblock-summary").first.click()  # what stays open is drawn again with every answer
    return status


@pytest.mark.timeout(400)
async def test_every_operation_runs_as_it_stands_and_nothing_comes_from_elsewhere(service: Serving, browser: Browser) -> None:
    stored = await service.client.post("/v1/workflows", json=WORKFLOWS["errand"]["value"])
    errand = await service.client.post("/v1/workflows/errand/runs", json={})  # which waits for a signal
    waiting = await service.client.post("/v1/orchestrations", json=ORCHESTRATIONS["approval"]["value"])
    kept = await service.client.post("/v1/orchestrations", json={"input": "Hi", "strategy": "direct", "stream": True})
    judged = await service.client.post("/v1/orchestrations", json=ORCHESTRATIONS["consensus"]["value"])
    said = await service.client.post("/v1/orchestrations", json=ORCHESTRATIONS["conversation"]["value"])
    found = [one.status_code for one in (waiting, kept, judged, said, stored, errand)]
    assert found == [202, 200, 200, 200, 201, 202]  # for operations on what there must be
    page = await browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{service.url}/docs")
    await page.locator(".opblock").first.wait_for()
    blocks = [str(await block.get_attribute("id")) for block in await page.locator(".opblock").all()]
    document = (await service.client.get("/openapi.json")).json()
    assert len(blocks) == sum(len(operations) for operations in document["paths"].values())

    statuses = {block: await executed(page, block) for block in sorted(blocks, key=lambda b: "delete" in b)}

    assert {block: status for block, status in statuses.items() if not 200 <= status < 300} == {}
    strangers = [url for url in asked if not url.startswith((service.url, "data:", "blob:"))]
    assert strangers == []
    await asyncio.wait_for(page.close(), 10)
