"""Tools that are HTTP requests: arguments are put into a template, and the result is taken out of the answer."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson

from app.config.tools import HttpToolConfig
from app.core.clock import Clock
from app.core.conditions import Expression, Unanswerable, compiled_expression
from app.core.errors import InvalidRequest
from app.core.templates import Missing, filled, filled_value, placeholders
from app.core.tools import FIRST, RESULT_VARIABLES, ToolCaller, ToolSpec, Version, parse_reference
from app.tools.asking_again import asked_wait, wait_before_next
from app.tools.builtins.http_fetch import body_of
from app.tools.failures import failed
from app.tools.outbound import Answer, Outbound

_SHOWN: Final = 300
"""Characters of a failed answer's body that are told."""


class HttpTool:
    """A configured HTTP tool. The configuration was checked: its host is fixed, its expression and schemas are sound."""

    unavailable = None

    def __init__(self, reference: str, config: HttpToolConfig, outbound: Outbound, clock: Clock) -> None:
        self.spec = spec_of(reference, config)
        self._clock = clock
        self._rng = Random()  # noqa: S311 (waits, not secrets)
        self._config = config
        self._outbound = outbound
        self._result: Expression | None = compiled_expression(config.result, RESULT_VARIABLES) if config.result else None

    async def run(self, arguments: dict[str, Any], caller: ToolCaller) -> Any:
        answer = await self._answer(arguments, caller)
        if not 200 <= answer.status < 300:
            raise failed(self.spec.name, self._said(answer), retry_after=asked_wait(answer))
        body = body_of(answer.content, answer.headers.get("content-type", ""))
        if self._result is None:
            return body
        try:
            return await self._result.value({"status": answer.status, "headers": dict(answer.headers), "body": body})
        except Unanswerable as error:
            raise failed(self.spec.name, f"its answer has no {self._config.result!r}: {error}") from None

    async def _answer(self, arguments: dict[str, Any], caller: ToolCaller) -> Answer:
        """What the service says, asked again where it was too busy and the call has the time to wait as long as it asks."""
        config, clock = self._config, self._clock
        url, headers = self._url(arguments), self._headers(arguments, sends=config.body is not None)
        content = b"" if config.body is None else orjson.dumps(filled_value(config.body, arguments))
        until = clock.monotonic() + self.spec.timeout_s
        if caller.deadline is not None:
            until = min(until, caller.deadline)
        retries = 0
        while True:
            answer = await self._outbound.send(
                self.spec.name,
                config.method,
                url,
                headers=headers,
                content=content,
                caller=caller,
                timeout_s=self.spec.timeout_s,
            )
            left_s = until - clock.monotonic()
            wait_s = wait_before_next(self.spec, answer, retries=retries, left_s=left_s, rng=self._rng)
            if wait_s is None:
                return answer
            retries += 1
            await asyncio.sleep(wait_s)

    def _url(self, arguments: dict[str, Any]) -> httpx.URL:
        path, mark, asked = self._config.url.partition("?")
        try:
            parts = [self._part(part, arguments) for part in path.split("/")]
            url = httpx.URL("/".join(parts) + mark + filled(asked, arguments, _encoded))
        except Missing as missing:
            raise InvalidRequest(f"arguments.{missing}: is missing", param=f"arguments.{missing}") from None
        query = filled_value(self._config.query, arguments)
        return url.copy_merge_params(query) if query else url

    def _part(self, template: str, arguments: dict[str, Any]) -> str:
        """A part of the path. What arguments make of it can be neither a path of its own nor a step upwards, nor nothing: then
        the URL would be that of all there is instead of that of one."""
        part = filled(template, arguments, _encoded)
        if part in ("", ".", "..") and part != template:
            names = ", ".join(repr(name) for name in placeholders(template))
            raise InvalidRequest(f"arguments: {names}: {part!r} cannot be a part of a URL", param="arguments")
        return part

    def _headers(self, arguments: dict[str, Any], *, sends: bool) -> dict[str, str]:
        headers = {"accept": "application/json, */*;q=0.5", "accept-encoding": "identity", "user-agent": "quorum"}
        if sends:
            headers["content-type"] = "application/json"
        for name, value in filled_value(self._config.headers, arguments).items():
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            if not text.isascii() or not text.isprintable():
                raise InvalidRequest(f"arguments: the header {name!r} would not be one line of ASCII", param="arguments")
            headers[name.lower()] = text
        return headers

    def _said(self, answer: Answer) -> str:
        if 300 <= answer.status < 400:
            return f"it answered with a redirect to {answer.headers.get('location', '')[:_SHOWN]!r}, which is not followed"
        wait_s = asked_wait(answer)
        later = "" if wait_s is None else f", and asks to wait {wait_s:g} s"
        return f"it answered {answer.status}{later}: {answer.content[:_SHOWN].decode('utf-8', 'replace')!r}"


def _encoded(text: str) -> str:
    return quote(text, safe="")


def spec_of(reference: str, config: HttpToolConfig) -> ToolSpec:
    """What is known of the configured tool `name` or `name@2`."""
    parsed = parse_reference(reference)
    if parsed is None:
        raise ValueError(f"{reference!r} is no tool's name")
    return ToolSpec(
        name=parsed.name,
        description=config.description,
        input_schema=config.input,
        version=Version(*parsed.version) if parsed.version else FIRST,
        output_schema=config.output,
        side_effect=config.side_effect or ("read" if config.method in ("GET", "HEAD") else "write"),
        source="http",
        timeout_s=config.timeout_s,
        cost_usd=config.cost_usd,
        scopes=frozenset(config.scopes),
        deprecated=config.deprecated,
        max_result_bytes=config.max_result_bytes,
        max_calls=config.max_calls,
    )
