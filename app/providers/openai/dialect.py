"""The dialect and the factory for providers of kind `openai` and `openai_compatible`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

import httpx
from aiohttp.abc import AbstractResolver

from app.config.spec import LLMProvider
from app.core.chat import ChatRequest, ChatResponse
from app.core.embeddings import EmbeddingRequest, EmbeddingResponse
from app.core.errors import ConfigError
from app.providers.http import HttpClient
from app.providers.http_provider import Failure, HttpProvider
from app.providers.openai.decoding import decode_response, request_id
from app.providers.openai.embeddings import decode_embeddings, encode_embeddings
from app.providers.openai.encoding import encode_request
from app.providers.openai.errors import failure_of_status
from app.providers.openai.stream import OpenAIStreamDecoder
from app.providers.vendors import Vendor, vendor_of


class OpenAIDialect:
    """Chat completions as `vendor` speaks it.

    Parameters:
        base_url: up to and without `/chat/completions`.
        api_key: sent as the vendor wants it; None sends none.
        query: added to every URL, over what the vendor's row says.

    Raises:
        ConfigError: `base_url` is not an http(s) URL.
    """

    def __init__(self, base_url: str, api_key: str | None, vendor: Vendor, query: Mapping[str, str] | None = None) -> None:
        self._vendor = vendor
        self._base_url = base_url.rstrip("/")
        self._query = {**vendor.query, **(query or {})}
        self._headers = _credential(vendor, api_key)
        self._models_url = self._url(vendor.models_path)
        self._chat_url = None if "{model}" in vendor.chat_path else self._url(vendor.chat_path)

    def _url(self, path: str) -> httpx.URL:
        try:
            url = httpx.URL(self._base_url + path)
        except httpx.InvalidURL as error:
            raise ConfigError(f"the base_url {self._base_url!r} is not a URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"the base_url {self._base_url!r} is not a URL with http:// or https:// and a host")
        return url.copy_merge_params(self._query) if self._query else url

    def url(self, request: ChatRequest) -> httpx.URL:
        if self._chat_url is not None:
            return self._chat_url
        return self._url(self._vendor.chat_path.format(model=quote(request.model, safe="")))

    def headers(self) -> Mapping[str, str]:
        return self._headers

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        return encode_request(request, self._vendor)

    def decode(self, body: Any, headers: Mapping[str, str]) -> ChatResponse:
        return decode_response(body, headers)

    def decoder(self, request: ChatRequest, headers: Mapping[str, str]) -> OpenAIStreamDecoder:
        return OpenAIStreamDecoder(done_marker=self._vendor.done_marker, provider_request_id=request_id(headers))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return failure_of_status(status, headers, body)

    def embeddings_url(self, request: EmbeddingRequest) -> httpx.URL:
        return self._url(self._vendor.embeddings_path.format(model=quote(request.model, safe="")))

    def encode_embeddings(self, request: EmbeddingRequest) -> dict[str, Any]:
        return encode_embeddings(request)

    def decode_embeddings(self, body: Any, request: EmbeddingRequest) -> EmbeddingResponse:
        return decode_embeddings(body, request)

    def models_url(self) -> httpx.URL:
        return self._models_url

    def model_names(self, body: Any) -> tuple[str, ...]:
        """The names in `{"data": [{"id": ...}]}`, or in the bare list that Together sends."""
        rows = cast("list[dict[str, str]]", body if isinstance(body, list) else body["data"])
        return tuple(row["id"] for row in rows)


def _credential(vendor: Vendor, api_key: str | None) -> dict[str, str]:
    if not api_key:
        return {}
    return {vendor.key_header: f"Bearer {api_key}" if vendor.key_header == "authorization" else api_key}


def openai_provider(
    name: str,
    config: LLMProvider,
    *,
    environ: Mapping[str, str] | None = None,
    names: AbstractResolver | None = None,
) -> HttpProvider:
    """A provider of kind `openai` or `openai_compatible` from its configuration.

    `environ` is where the vendor's usual variables are looked up when `config` has no key. That is done for the vendor's own
    base URL only, so that no key goes to another host.

    Raises:
        ConfigError: the vendor is unknown, or there is no base URL.
    """
    vendor = vendor_of(config.kind, config.vendor)
    base_url = config.base_url or vendor.base_url
    if base_url is None:
        whose = f"the vendor {config.vendor!r}" if config.vendor else "the kind 'openai_compatible' without a vendor"
        raise ConfigError(f"provider {name!r}: {whose} has no base URL of its own; set base_url")
    key = config.api_key.get_secret_value().strip() if config.api_key else None
    if not key and config.base_url is None and environ:
        key = next((value for variable in vendor.key_variables if (value := environ.get(variable))), None)
    return HttpProvider(
        name=name,
        kind=config.kind,
        dialect=OpenAIDialect(base_url, key, vendor, config.query),
        http=HttpClient(name, connect_s=config.timeouts.connect_s, max_connections=config.max_connections, resolver=names),
        extra_headers=config.headers,
    )
