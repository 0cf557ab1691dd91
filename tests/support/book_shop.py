"""A tool that writes: it orders books at a loopback shop."""

from __future__ import annotations

from typing import Any

from tests.support.loopback import Loopback


def order_tool(shop: Loopback) -> dict[str, Any]:
    """The `tools` of a configuration: only `order`, which everybody may call."""
    host = shop.url.removeprefix("http://")
    order = {
        "description": "Orders a book.",
        "method": "POST",
        "url": f"{shop.url}/orders",
        "body": {"title": "{title}"},
        "input": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
    }
    allow = {"effect": "allow", "tools": ["order"]}
    return {"hosts": [host], "private_hosts": [host], "http": {"order": order}, "permissions": [allow], "builtins": []}
