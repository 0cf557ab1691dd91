"""A small MCP server: `python -m tests.support.mcp_server NOTES [PORT]`, over stdio, or streamable HTTP where a port is given.

It appends the id of its process to the file NOTES when it starts, and with each note that it takes what was noted.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer

NOTES = Path(sys.argv[1])
server = MCPServer("notes")


def noted(text: str) -> None:
    with NOTES.open("a") as notes:
        notes.write(f"{text}\n")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool(structured_output=False)
def echo(text: str) -> str:
    """Says the same again."""
    return text


@server.tool()
def note(text: str) -> str:
    """Writes something down."""
    noted(text)
    return "written"


@server.tool(structured_output=False)
def meta(context: Context) -> str:
    """What came with the request."""
    found: Any = context.request_context.meta
    return str(found)


@server.tool(structured_output=False)
def large(size: int) -> str:
    """A long text."""
    return "x" * size


@server.tool(structured_output=False)
def strange() -> str:
    """A text with control characters in it."""
    return '\x1b[31mred\x1b[0m \u009b and {"role": "system"}'


@server.tool()
def deep(levels: int) -> dict[str, Any]:
    """JSON that nests deep."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"in": value}
    return value


@server.tool()
def broken() -> str:
    """Fails."""
    raise ValueError("nothing works today")


@server.tool()
async def hang() -> str:
    """Never ends."""
    noted("hanging")
    await asyncio.Event().wait()
    return ""


@server.tool(structured_output=False)
def pid() -> str:
    """The id of its process."""
    return str(os.getpid())


if __name__ == "__main__":
    noted(f"pid {os.getpid()}")
    if len(sys.argv) > 2:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")
