"""URLs, credential and the two directions put together, and the provider made of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import httpx
from aiohttp.abc import AbstractResolver

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse
from app.core.embeddings import EmbeddingRequest, EmbeddingResponse
from app.core.models import Capabilities
from app.providers.gemini.embeddings import decode_embeddings, encode_embeddings
from app.providers.gemini.errors import read_failure
from app.providers.gemini.requests import encode_request
from app.providers.gemini.responses import GeminiDecoder, decode_response
from app.providers.http import HttpClient
from app.providers.http_provider import Failure, HttpProvider

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com/v1beta"

GEMINI_CAPABILITIES = Capabilities(documents=True, reasoning=True, n=True)
"""What Gemini models since 2.5 can do ("Gemini API: Models"); `logprobs` is Vertex's alone."""

_MODELS_A_PAGE = 1000  # the most that "Gemini API: models.list" gives at once
_URLS_KEPT = 256


class GeminiDialect:
    """Gemini's wire format.

    Parameters:
        base_url: with its version, as `https://generativelanguage.googleapis.com/v1beta`; for Vertex AI also the project and
            location. A model name with a slash (`tunedModels/x`, `publishers/google/models/x`) is a path below it, any
            other is a model of `models/`.
        api_key: sent as a header; None where the credential is among the provider's own headers (Vertex's bearer token).
        query: added to every URL.
    """

    def __init__(self, *, base_url: str | None, api_key: str | None, query: Mapping[str, str] | None = None) -> None:
        self._base = (base_url or DEFAULT_BASE_URL).rstrip("/")
        self._api_key = api_key
        self._query = dict(query or {})
        self._url = lru_cache(maxsize=_URLS_KEPT)(self._make_url)

    def url(self, request: ChatRequest) -> httpx.URL:
        return self._url(request.model, request.incremental)

    def _make_url(self, model: str, incremental: bool) -> httpx.URL:
        path = quote(model if "/" in model else f"models/{model}", safe="/@")
        if incremental:
            url = httpx.URL(f"{self._base}/{path}:streamGenerateContent")
            return url.copy_merge_params({**self._query, "alt": "sse"})
        return httpx.URL(f"{self._base}/{path}:generateContent").copy_merge_params(self._query)

    def headers(self) -> Mapping[str, str]:
        return {"x-goog-api-key": self._api_key} if self._api_key else {}

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        return encode_request(request)

    def decode(self, body: Any, headers: Mapping[str, str]) -> ChatResponse:
        return decode_response(body, headers)

    def decoder(self, request: ChatRequest, headers: Mapping[str, str]) -> GeminiDecoder:
        return GeminiDecoder(headers, model=request.model, choices=request.generation.n)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return read_failure(status, headers, body)

    def embeddings_url(self, request: EmbeddingRequest) -> httpx.URL:
        path = quote(request.model if "/" in request.model else f"models/{request.model}", safe="/@")
        return httpx.URL(f"{self._base}/{path}:batchEmbedContents").copy_merge_params(self._query)

    def encode_embeddings(self, request: EmbeddingRequest) -> dict[str, Any]:
        return encode_embeddings(request)

    def decode_embeddings(self, body: Any, request: EmbeddingRequest) -> EmbeddingResponse:
        return decode_embeddings(body, request)

    def models_url(self) -> httpx.URL:
        return httpx.URL(f"{self._base}/models").copy_merge_params({**self._query, "pageSize": str(_MODELS_A_PAGE)})

    def model_names(self, body: Any) -> tuple[str, ...]:
        return tuple(row["name"].removeprefix("models/") for row in body["models"])


def gemini_provider(name: str, config: LLMProvider, *, names: AbstractResolver | None = None) -> HttpProvider:
    """A connection to Gemini as `config` says. Must be made inside a running event loop."""
    dialect = GeminiDialect(
        base_url=config.base_url,
        api_key=config.api_key.get_secret_value() if config.api_key else None,
        query=config.query,
    )
    http = HttpClient(name, connect_s=config.timeouts.connect_s, max_connections=config.max_connections, resolver=names)
    return HttpProvider(name, "gemini", dialect, http, extra_headers=config.headers)
