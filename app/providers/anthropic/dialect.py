"""The dialect, and the provider that speaks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from aiohttp.abc import AbstractResolver

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse
from app.providers.anthropic import failure
from app.providers.anthropic.request import encode
from app.providers.anthropic.response import decode
from app.providers.anthropic.stream import AnthropicStream
from app.providers.base import Capabilities
from app.providers.http import HttpClient
from app.providers.http_provider import Failure, HttpProvider, StreamDecoder

BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"

ANTHROPIC_CAPABILITIES = Capabilities(documents=True, reasoning=True, seed=False)
"""What current Claude models do. JSON objects without a schema are asked for in words."""


class AnthropicDialect:
    """The Messages API at `base_url` (with or without `/v1`); `query` is added to every URL."""

    def __init__(self, base_url: str | None, api_key: str | None, query: Mapping[str, str]) -> None:
        root = (base_url or BASE_URL).rstrip("/").removesuffix("/v1")
        self._messages = httpx.URL(f"{root}/v1/messages", params=query or None)
        self._models = httpx.URL(f"{root}/v1/models", params={"limit": "1000", **query})
        self._api_key = api_key

    def url(self, request: ChatRequest) -> httpx.URL:
        return self._messages

    def headers(self) -> Mapping[str, str]:
        key = {"x-api-key": self._api_key} if self._api_key else {}
        return {"anthropic-version": VERSION, **key}

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        return encode(request)

    def decode(self, body: Any, headers: Mapping[str, str]) -> ChatResponse:
        return decode(body, headers)

    def decoder(self, request: ChatRequest, headers: Mapping[str, str]) -> StreamDecoder:
        return AnthropicStream(headers)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return failure.of_answer(status, headers, body)

    def models_url(self) -> httpx.URL:
        return self._models

    def model_names(self, body: Any) -> tuple[str, ...]:
        return tuple(model["id"] for model in body["data"])


def anthropic_provider(name: str, config: LLMProvider, *, names: AbstractResolver | None = None) -> HttpProvider:
    """A connection to Anthropic, or to what speaks its dialect. Must be made inside a running event loop."""
    key = config.api_key.get_secret_value() if config.api_key else None
    return HttpProvider(
        name,
        "anthropic",
        AnthropicDialect(config.base_url, key, config.query),
        HttpClient(name, connect_s=config.timeouts.connect_s, max_connections=config.max_connections, resolver=names),
        extra_headers=config.headers,
    )
