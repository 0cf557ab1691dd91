"""The service that is asked: its contestants, its runs, and the feedback that it learns from."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self, cast
from urllib.parse import urlsplit

import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from app.cli.eval.grading import gold_labels
from app.cli.eval.results import Contestant, Result, failed, result_of
from app.config.explaining import close_to
from app.core.errors import Forbidden, NotFound, OrchestratorError, Unauthorized

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from app.cli.eval.questions import Question

CONNECT_S: Final = 5.0
RUN_S: Final = 900.0
"""Longer than a call may take (`total_s`, 600 s): a run of several phases ends by itself."""
TRIES: Final = 4
"""How often a question is asked while the service says that asking again may help."""
LONGEST_WAIT_S: Final = 60.0
FEEDBACK: Final = "/v1/feedback"


class Client:
    """Asks the service at `url`. `speed` is how many times as fast as recorded its replayed answers come."""

    def __init__(self, http: httpx.AsyncClient, url: str, speed: float) -> None:
        self._http = http
        self._url = url
        self._speed = speed

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, key: str | None, *, connections: int, speed: float) -> AsyncGenerator[Self]:
        http = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else None,
            timeout=httpx.Timeout(RUN_S, connect=CONNECT_S),
            transport=AiohttpTransport(limits=httpx.Limits(max_connections=connections)),  # half the time of httpx's own
            trust_env=urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"),  # no proxy leads to this machine
        )
        async with http:
            yield cls(http, url, speed)

    async def contestants(self, names: Sequence[str], *, members: bool) -> tuple[Contestant, ...]:
        """Who is meant by `names`, and with `members` each model of theirs too.

        Raises:
            NotFound: the service has no model, recipe or strategy of a name.
            QuorumError: it cannot be reached or refuses the key.
        """
        entries = {one["id"]: one for one in (await self._json("/v1/models"))["data"]}
        found = [await self._contestant(name, entries) for name in names]
        if members:
            single = [model for one in found if one.kind != "model" for model in one.models]
            found += [await self._contestant(model, entries) for model in dict.fromkeys(single) if model not in names]
        return tuple(found)

    async def _contestant(self, name: str, entries: Mapping[str, Mapping[str, Any]]) -> Contestant:
        entry = entries.get(name)
        if entry is None:
            try:
                entry = await self._json(f"/v1/models/{name}")
            except NotFound:
                hint = close_to(name, entries)
                raise NotFound(f"{self._url} has no model, recipe or strategy {name!r}{hint}", param="--recipe") from None
        kind = entry["kind"]
        models = (name,) if kind == "model" else tuple(entry.get("models", ()))
        return Contestant(name, kind, entry.get("fingerprint", ""), models, "+".join(entry.get("learned", ())))

    async def ask(self, contestant: Contestant, question: Question) -> Result:
        """Ask one question. What the service answers with an error is a result too.

        Raises:
            QuorumError: the service is gone, or refuses the key: nothing further can be asked.
        """
        body = _body(contestant, question)
        answer = await self._patiently(body)
        content = orjson.loads(answer.content)
        if answer.status_code == 200:
            return result_of(content, contestant, question, speed=self._speed)
        error: Mapping[str, Any] = content["error"]
        return failed(contestant, question, str(error["code"]), str(error["message"]), content.get("result"))

    async def _patiently(self, body: bytes) -> httpx.Response:
        """The answer; asked again where the service says that it may help, after the wait that it names."""
        for _ in range(TRIES - 1):
            answer = await self._send("POST", "/v1/orchestrations", body)
            if answer.headers.get("x-should-retry") != "true":
                return answer
            wait_s = answer.headers.get("retry-after", "")
            await asyncio.sleep(min(float(wait_s) if wait_s.isdecimal() else 1.0, LONGEST_WAIT_S))
        return await self._send("POST", "/v1/orchestrations", body)

    async def takes_feedback(self) -> bool:
        """Whether the service has a route for feedback; older ones have none."""
        return FEEDBACK in (await self._json("/openapi.json"))["paths"]

    async def tell(self, question: Question, result: Result) -> str | None:
        """Tell the service what was right for a run: the right answer where its answers were counted and can be read, else how
        good its own was. Why it took no notice, or None where it did.

        Raises:
            NotFound: the run is not one of those that the service keeps to learn from.
        """
        labels = gold_labels(question.gold, question.grading)
        score = {"score": result.score}
        labelled = result.counted and labels and question.grading.kind in _LABELLED
        answer = await self._judge(result, {"label": labels[0]} if labelled else score)
        if answer.status_code == 400 and labelled:
            answer = await self._judge(result, score)
        if answer.status_code == 404:
            raise NotFound(_message(answer))
        return None if answer.is_success else _message(answer)

    async def _judge(self, result: Result, judged: Mapping[str, Any]) -> httpx.Response:
        return await self._send("POST", FEEDBACK, orjson.dumps({"run_id": result.run_id, **judged}))

    async def _json(self, path: str) -> Mapping[str, Any]:
        answer = await self._send("GET", path)
        if answer.status_code == 404:
            raise NotFound(_message(answer))
        if not answer.is_success:
            raise OrchestratorError(f"{self._url}{path} answered {answer.status_code}: {_message(answer)}")
        return cast("dict[str, Any]", orjson.loads(answer.content))

    async def _send(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        try:
            answer = await self._http.request(
                method, path, content=body, headers={"content-type": "application/json"} if body else None
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise OrchestratorError(f"the service at {self._url} cannot be reached or broke off: {reason}") from None
        if answer.status_code == 401:
            raise Unauthorized(f"{_message(answer)}; give --key, or set QUORUM_API_KEY")
        if answer.status_code == 403:
            raise Forbidden(_message(answer))
        if "x-request-id" not in answer.headers:
            raise OrchestratorError(f"{self._url} answers, but not as a Quorum service does; name yours with --url")
        return answer


_LABELLED: Final = ("choice", "number", "exact")


def _body(contestant: Contestant, question: Question) -> bytes:
    """The request. The category goes along as metadata, by which strategies know what they learned of it."""
    category = {"category": question.category} if question.category else {}
    body: dict[str, Any] = {"input": question.input, "metadata": {**question.metadata, **category, "question": question.id}}
    match contestant.kind:
        case "model":
            body |= {"strategy": "direct", "models": [contestant.name]}
        case "recipe":
            body["recipe"] = contestant.name
        case "strategy":
            body["strategy"] = contestant.name.partition("/")[2]
    return orjson.dumps(body)


def _message(answer: httpx.Response) -> str:
    try:
        return str(orjson.loads(answer.content)["error"]["message"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return f"status {answer.status_code}"
