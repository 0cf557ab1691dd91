"""One MCP server as the relay sees it: connected, listed, called, and connected again when it went away.

Runs in the relay alone: here the library is loaded.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TextIO, cast

import httpx2
import mcp_types as types
import orjson
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from app.tools.mcp.bounds import MAX_MESSAGE_BYTES, bounded_body, bounded_lines
from app.tools.mcp.frames import Failure, ServerState
from app.tools.mcp.reaching import REACHED, Reached, ReachingClient

FIRST_DELAY_S: Final = 0.25
LONGEST_DELAY_S: Final = 10.0
STEADY_S: Final = 30.0
"""A connection that lasted so long is made anew at once; after a shorter one the wait doubles."""
RELIST_S: Final = 60.0
"""How often a server is asked for its tools again, in case it does not tell of changes."""
RETIRE_S: Final = 60.0
"""Calls under way at a server that nobody wants any more have so long to end."""
MAX_TOOLS: Final = 256
MAX_PAGES: Final = 64
"""Of a list of tools: a server that gives a cursor again and again would be asked for ever."""
MAX_NAME: Final = 256
MAX_BLOCKS: Final = 1_000
MAX_STRUCTURED_BYTES: Final = 4_000_000
"""Beyond the longest result that a tool may have, since it is held to its schema whole and cut afterwards."""
MAX_SCHEMA_BYTES: Final = 200_000
MAX_DESCRIPTION: Final = 4_000
MAX_LOG_BYTES: Final = 1_000_000
_HTTP_CONNECT_S: Final = 10.0
_ENDED: Final = "it ended"
_GONE: Final = frozenset({types.CONNECTION_CLOSED})


class Session:
    """A server that somebody wants.

    Parameters:
        config: `command, env, cwd` or `url, headers`, and `connect_s`.
        log: where a program's stderr goes.
        changed: called when `state`, `error` or `tools` are others.
    """

    def __init__(self, config: dict[str, Any], log: Path, changed: Callable[[], None]) -> None:
        self.state: ServerState = "starting"
        self.error: str | None = None
        self.tools: list[dict[str, Any]] = []
        self.calls = 0
        self._config = config
        self._log = log
        self._changed = changed
        self._client: Client | None = None
        self._ended = asyncio.Event()
        self._why_ended = _ENDED
        self._relist = asyncio.Event()
        self._retired = False
        self._closing = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task = asyncio.create_task(self._keep(), name="mcp server")

    async def retire(self) -> None:
        """End the connection, and the program, once the calls under way are over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), RETIRE_S)
        self._retired = True
        if not self._closing.is_set():  # whose steps have limits: who cancels amid them leaves the program behind
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def call(
        self, tool: str, arguments: dict[str, Any], *, timeout_s: float, meta: Any, most_bytes: int
    ) -> dict[str, Any]:
        """The answer to a call: `{content, structured, is_error}`, or `{failure, message}`."""
        client = self._client
        if client is None or self._ended.is_set():
            return _failure("away", self.error or ("it has ended" if client else "it is being started"))
        self.calls += 1
        self._idle.clear()
        reached = Reached()
        REACHED.set(reached)  # for this call alone, which is a task of its own
        try:
            result = await client.call_tool(tool, arguments, read_timeout_seconds=timeout_s, meta=meta or None)
        except MCPError as error:
            return await self._refused(error, timeout_s, reached)
        except TimeoutError:
            return _failure("timeout", f"no answer within {timeout_s:g} s")
        except Exception as error:  # the boundary: whatever the library raises is told, not passed on
            return _failure("failed", f"{type(error).__name__}: {error}"[:2_000])
        finally:
            self.calls -= 1
            if not self.calls:
                self._idle.set()
        return _content(result, most_bytes)

    async def _refused(self, error: MCPError, timeout_s: float, reached: Reached) -> dict[str, Any]:
        if reached.refused and not reached.sent:
            self._why_ended = reached.refused
            self._ended.set()
            return _failure("away", f"{reached.refused}; nothing of the call was sent")
        if error.code == types.REQUEST_TIMEOUT:
            return _failure("timeout", f"no answer within {timeout_s:g} s")
        if error.code in _GONE or self._ended.is_set() or not await self._answers():
            self._ended.set()
            why = "" if self._why_ended is _ENDED else f" ({self._why_ended})"
            return _failure("unknown", f"its server went away while it worked{why}; whether the call took effect is not known")
        return _failure("failed", error.message[:2_000])

    async def _answers(self) -> bool:
        """Whether the server is still there, after it has answered with an error that may be the transport's own."""
        client = self._client
        if client is None:
            return False
        if not self._config.get("url"):
            return True  # a program that ends closes its pipes, which is noticed
        try:
            await client.list_tools(cache_mode="bypass")
        except Exception:  # the boundary: any failure means that it does not answer
            return False
        return True

    # ---- the connection

    async def _keep(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._retired:
            began = time.monotonic()
            try:
                async with AsyncExitStack() as stack:
                    self._ended.clear()
                    self._why_ended = _ENDED
                    client = await stack.enter_async_context(await self._connecting(stack))
                    await self._list(client)
                    self._client = client
                    await self._watch(client)
                    self._away(self._why_ended)  # at once: ending what is left of it takes a while
            except Exception as error:  # the boundary: a server may fail in any way, and is tried again
                if self._why_ended is _ENDED:
                    self._why_ended = self._why(_innermost(error))
            finally:
                self._client = None
                self._closing.clear()
            self._away(self._why_ended)
            if self._retired:
                return
            if time.monotonic() - began >= STEADY_S:
                delay_s = FIRST_DELAY_S
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 (a wait, no secret)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    def _said_too_much(self) -> None:
        self._why_ended = f"it said a line of more than {MAX_MESSAGE_BYTES} bytes, and was ended"
        self._ended.set()

    def _why(self, error: BaseException) -> str:
        if isinstance(error, MCPError) and error.code in _GONE and not self._config.get("url"):
            return _ENDED
        return _said(error)

    def _away(self, why: str) -> None:
        self._client = None
        if why is _ENDED and not self._config.get("url"):
            why = f"{why}; what it wrote is in mcp/{self._log.name} of the data directory"
        if (self.state, self.error) != ("away", why):
            self.state, self.error = "away", why
            self._changed()

    async def _connecting(self, stack: AsyncExitStack) -> Client:
        config = self._config
        if config.get("url"):
            http = await stack.enter_async_context(
                ReachingClient(
                    headers={"Accept-Encoding": "identity", **(config.get("headers") or {})},
                    timeout=httpx2.Timeout(_HTTP_CONNECT_S, read=None),
                    event_hooks={"response": [bounded_body]},
                )
            )
            transport = streamable_http_client(config["url"], http_client=http, max_sse_event_size=MAX_MESSAGE_BYTES)
        else:
            command, *args = config["command"]
            parameters = StdioServerParameters(
                command=command,
                args=args,
                env=config.get("env") or None,
                cwd=config.get("cwd"),
                encoding=stack.enter_context(bounded_lines(MAX_MESSAGE_BYTES, self._said_too_much)),
                encoding_error_handler="replace",
            )
            transport = stdio_client(parameters, stack.enter_context(self._log_file()))
        return Client(
            _watched(transport, self._ended, self._closing),
            read_timeout_seconds=config["connect_s"],
            message_handler=self._heard,
            client_info=types.Implementation(name="quorum", version="1"),
            cache=None,
        )

    async def _watch(self, client: Client) -> None:
        """Returns when the server has gone; lists its tools again meanwhile."""
        while not self._ended.is_set():
            waits = [asyncio.ensure_future(one.wait()) for one in (self._ended, self._relist)]
            try:
                await asyncio.wait(waits, timeout=RELIST_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            self._relist.clear()
            if not self._ended.is_set():
                await self._list(client)

    async def _heard(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._relist.set()

    async def _list(self, client: Client) -> None:
        found: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="bypass")
            found += page.tools
            cursor = page.next_cursor
            if not cursor or len(found) >= MAX_TOOLS:
                break
        tools = [_tool(one) for one in found[:MAX_TOOLS] if len(one.name) <= MAX_NAME]
        if tools != self.tools or self.state != "ready":
            self.tools, self.state, self.error = tools, "ready", None
            self._changed()

    def _log_file(self) -> TextIO:
        fresh = self._log.exists() and self._log.stat().st_size > MAX_LOG_BYTES
        return self._log.open("w" if fresh else "a", encoding="utf-8")


class _Watched:
    """A read stream that tells of its end."""

    def __init__(self, inner: Any, ended: asyncio.Event) -> None:
        self._inner = inner
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def receive(self) -> Any:
        try:
            return await self._inner.receive()
        except Exception:
            self._ended.set()
            raise

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._inner)
        except BaseException:
            self._ended.set()
            raise

    async def __aenter__(self) -> _Watched:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *how: Any) -> Any:
        return await self._inner.__aexit__(*how)


@asynccontextmanager
async def _watched(transport: Any, ended: asyncio.Event, closing: asyncio.Event) -> AsyncGenerator[Any]:
    """`transport`, which sets `ended` where the server has gone, and `closing` before it is closed."""
    async with transport as (read, write):
        try:
            yield _Watched(read, ended), write
        finally:
            closing.set()


def _tool(tool: types.Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": (tool.description or tool.title or tool.name)[:MAX_DESCRIPTION],
        "input_schema": _bounded(tool.input_schema),
        "output_schema": _bounded(tool.output_schema),
    }


def _bounded(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    return schema if schema is not None and _size(schema) <= MAX_SCHEMA_BYTES else None


def _size(value: Any) -> float:
    """The bytes of `value` as JSON; infinite where it nests too deep for that."""
    try:
        return len(orjson.dumps(value))
    except (orjson.JSONEncodeError, RecursionError):
        return math.inf


def _content(result: types.CallToolResult, most_bytes: int) -> dict[str, Any]:
    """A result as the worker gets it: texts up to a bound, and of everything else what it is and how large."""
    if _size(result.structured_content) > MAX_STRUCTURED_BYTES:
        return _failure("failed", f"its result nests too deep, or has more than {MAX_STRUCTURED_BYTES} bytes")
    left = most_bytes + 1  # one more, so that who bounds it sees that there was more
    blocks: list[dict[str, Any]] = []
    for block in result.content[:MAX_BLOCKS]:
        if isinstance(block, types.TextContent):
            text = block.text[:left]
            left = max(0, left - len(text))
            blocks.append({"type": "text", "text": text.encode("utf-8", "replace").decode()})
        else:
            shown = block.model_dump(mode="json", by_alias=True, exclude_none=True)
            kept = {name: value for name, value in shown.items() if isinstance(value, str) and len(value) <= 500}
            blocks.append(kept | {"bytes": len(str(shown.get("data", "")))})
    return {"content": blocks, "structured": result.structured_content, "is_error": result.is_error}


def _failure(failure: Failure, message: str) -> dict[str, Any]:
    return {"failure": failure, "message": message}


def _innermost(error: BaseException) -> BaseException:
    """What went wrong, without the frame that task groups put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _said(error: BaseException) -> str:
    match error:
        case FileNotFoundError():
            return f"its program was not found: {error.filename!r}"
        case MCPError():
            return error.message[:500]
        case _:
            return (f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:500]
