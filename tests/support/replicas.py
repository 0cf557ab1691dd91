"""Several replicas over one store, a slow provider behind them, and a client that may drop and come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.frames import Frame, frames
from tests.support.loopback import Answer, sse
from tests.support.openai_wire import stream
from tests.support.serving import Serving, serving

ASK = {"input": "Hi", "strategy": "direct", "models": ["m"], "stream": True}


def slowly(pieces: int, gap_s: float) -> Answer:
    """An answer of so many numbered words, one every `gap_s` seconds."""
    body = stream(*(f"w{number} " for number in range(pieces)))
    cuts = [i + 2 for i in range(len(body)) if body.startswith(b"\n\n", i)]
    return sse(body, cuts=cuts, gap_s=gap_s)


@asynccontextmanager
async def replicas(
    directory: Path, redis_url: str, config: Mapping[str, Any], count: int = 2, **settings: Any
) -> AsyncIterator[list[Serving]]:
    """`count` services that share nothing but the store."""
    async with AsyncExitStack() as stack:
        found: list[Serving] = []
        for number in range(count):
            place = directory / f"replica-{number}"
            place.mkdir()
            found.append(await stack.enter_async_context(serving(place, redis_url, config, **settings)))
        yield found


class Reading:
    """What a client has of a run. `text` is every whole frame as it came, without comments."""

    def __init__(self) -> None:
        self.text = ""
        self.run_id = ""

    @property
    def frames(self) -> list[Frame]:
        return frames(self.text)

    @property
    def last(self) -> str:
        """The id of the last frame, as a client would send it."""
        return self.frames[-1].fields["id"] if self.text else ""

    @property
    def ended(self) -> bool:
        return bool(self.text) and self.frames[-1].fields["event"] in ("run.finished", "run.failed")

    @property
    def answer(self) -> str:
        return "".join(frame.json["text"] for frame in self.frames if frame.fields["event"] == "output.delta")

    async def begin(
        self, client: httpx.AsyncClient, body: Mapping[str, Any] = ASK, *, most: int = 10**9, **headers: str
    ) -> None:
        """Ask, and read up to `most` frames; then drop the connection."""
        async with client.stream("POST", "/v1/orchestrations", json=body, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            self.run_id = answer.headers["x-quorum-run-id"]
            await self._take(answer, most)

    async def go_on(self, client: httpx.AsyncClient, *, most: int = 10**9, **headers: str) -> None:
        """The same for the rest."""
        sent = {"last-event-id": self.last, **headers} if self.last else headers
        async with client.stream("GET", f"/v1/orchestrations/{self.run_id}/events", headers=sent) as answer:
            assert answer.status_code == 200, await answer.aread()
            await self._take(answer, most)

    async def _take(self, answer: httpx.Response, most: int) -> None:
        rest, taken = "", 0
        async for piece in answer.aiter_text():
            rest += piece
            while taken < most and "\n\n" in rest:
                frame, _, rest = rest.partition("\n\n")
                if not frame.startswith(":"):
                    self.text += f"{frame}\n\n"
                    taken += 1
            if taken >= most:
                return


async def logged(client: httpx.AsyncClient, event: str, runs: int, strategy: str, *, within_s: float = 30) -> None:
    """Wait until the logs of `runs` runs of `strategy` tell `event`."""
    seen: set[str] = set()
    async with asyncio.timeout(within_s):
        while len(seen) < runs:
            page = await client.get("/v1/orchestrations", params={"limit": 100, "strategy": strategy})
            for run_id in {run["id"] for run in page.json()["data"]} - seen:
                reading = Reading()
                reading.run_id = run_id
                while f"event: {event}\n" not in reading.text:
                    await reading.go_on(client, most=1)
                seen.add(run_id)


def result_of(found: Sequence[Frame]) -> Any:
    return json.loads(found[-1].fields["data"])["result"]
