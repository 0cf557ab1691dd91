"""An MCP server written by hand, which answers calls with bytes that no library would send: `python rough_mcp_server.py`."""

from __future__ import annotations

import json
import sys
from typing import Any

NAMES = ("bytes", "deep", "noise", "huge", "fat", "wrong", "silent", "endless")
ANY = {"type": "object"}


def say(raw: bytes) -> None:
    sys.stdout.buffer.write(raw + b"\n")
    sys.stdout.buffer.flush()


def answer(number: Any, result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()


def call(number: Any, name: str) -> None:
    text = answer(number, {"content": [{"type": "text", "text": "HERE"}]})
    match name:
        case "bytes":
            say(text.replace(b"HERE", b"caf\xe9 \xff\xfe ok"))
        case "deep":
            nested = b'{"a":' * 3_000 + b"1" + b"}" * 3_000
            say(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[],"structuredContent":%s}}' % (number, nested))
        case "noise":
            say(b"this is no JSON")
            say(b'{"jsonrpc":"2.0","id":99999,"result":{}}')
            say(text.replace(b"HERE", b"after the noise"))
        case "huge":
            say(text.replace(b"HERE", b"x" * 10_000_000))
        case "fat":
            say(answer(number, {"content": [], "structuredContent": {"a": "x" * 5_000_000}}))
        case "wrong":
            say(answer(number, {"content": "no list"}))
        case "endless":
            while True:
                sys.stdout.buffer.write(b"x" * 65_536)
        case _:
            pass


for line in sys.stdin.buffer:
    asked = json.loads(line)
    match asked.get("method"):
        case "initialize":
            version = asked["params"]["protocolVersion"]
            about = {"name": "rough", "version": "1"}
            say(answer(asked["id"], {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}))
        case "tools/list":
            tools = [{"name": name, "inputSchema": ANY} for name in NAMES]
            if "pages" in sys.argv:  # for ever, and nothing but the first is there
                first = "cursor" not in asked.get("params", {})
                say(answer(asked["id"], {"tools": tools if first else [], "nextCursor": "more"}))
            else:
                say(answer(asked["id"], {"tools": tools}))
        case "tools/call":
            call(asked["id"], asked["params"]["name"])
        case _ if "id" in asked and "method" in asked:
            error = {"code": -32601, "message": "no such method"}
            say(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}).encode())
        case _:
            pass
