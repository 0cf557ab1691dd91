"""Registered providers: list, register, remove, check."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter, Path, Request
from pydantic import Field, SecretStr
from starlette.responses import Response

from app.api.access import Admin, Reader
from app.api.acts import act_of
from app.api.body import read_json
from app.api.describe import described
from app.api.schemas.answers import ProviderEntry, ProviderList
from app.api.schemas.messages import Body
from app.api.services import services_of
from app.config.loading import Checks, check_spec
from app.config.spec import LLMProvider, Name, ProviderKind, QuorumSpec
from app.core.audit import recorded
from app.core.errors import ConfigError, ConflictError, InvalidRequest
from app.providers.base import Availability
from app.providers.destinations import check_destination
from app.providers.factory import make_provider, provider_faults
from app.providers.registry import Connection

router = APIRouter(tags=["Providers"])

ProviderName = Annotated[str, Path(openapi_examples={"mock": {"value": "mock"}})]
RegisteredName = Annotated[str, Path(openapi_examples={"registered": {"summary": "Register it first", "value": "my-mock"}})]

_EXAMPLES = {
    "mock": {"summary": "A second mock provider", "value": {"name": "my-mock", "kind": "mock"}},
}


class ProviderBody(Body):
    """A provider to register. Its credential is stored encrypted, and never shown again."""

    name: Name
    kind: ProviderKind
    vendor: str | None = None
    base_url: str | None = None
    api_key: SecretStr | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    query: dict[str, str] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)


@router.get("/v1/providers", summary="Providers", openapi_extra=described(ProviderList))
async def list_providers(request: Request, _who: Reader) -> Response:
    """The configured providers and those registered at run time, without their credentials."""
    data = [_shown(connection) for connection in services_of(request).registry.providers()]
    return _json({"object": "list", "data": data, "next_cursor": None})


@router.post(
    "/v1/providers",
    status_code=201,
    summary="Register a provider",
    openapi_extra=described(ProviderEntry, body=ProviderBody, examples=_EXAMPLES, status=201),
)
async def register_provider(request: Request, who: Admin) -> Response:
    """Add a provider at run time, on every replica. Its models are then named `name/model`.

    Private addresses are refused unless the configuration lists their host under `allowed_hosts`; `replay`, which reads
    files of this machine, comes from the configuration only.
    """
    services = services_of(request)
    spec = services.engine.spec
    body = await read_json(request, ProviderBody, services)
    if body.kind == "replay":
        raise InvalidRequest("a replay provider reads a file of this machine: put it into quorum.yaml", param="kind")
    config = LLMProvider.model_validate(body.model_dump(exclude={"name"}, exclude_unset=True))
    _check(body.name, config)
    if config.base_url is not None:
        await check_destination(config.base_url, spec.allowed_hosts)
    if any(connection.name == body.name for connection in services.registry.providers()):
        message = f"there is a provider {body.name!r} already; remove it first, or choose another name"
        raise ConflictError(message, param="name")
    try:
        await make_provider(body.name, config).aclose()
    except ConfigError as error:
        raise InvalidRequest("; ".join((error.message, *error.faults))) from None
    host = urlsplit(config.base_url).hostname if config.base_url else None
    facts = {"kind": config.kind, "vendor": config.vendor, "host": host, "has_key": config.api_key is not None}
    async with recorded(services.audit, act_of(request, who, "provider.register", "provider", body.name), facts):
        await services.dynamic_providers.add(body.name, config)
    await services.sync_providers()
    return _json(_shown(services.registry.provider(body.name)), 201)


@router.delete("/v1/providers/{name}", status_code=204, summary="Remove a provider", openapi_extra=described(status=204))
async def remove_provider(request: Request, name: RegisteredName, who: Admin) -> Response:
    """Remove a provider that was registered at run time; calls under way go on."""
    services = services_of(request)
    connection = services.registry.provider(name)
    if not connection.dynamic:
        raise ConflictError(f"the provider {name!r} comes from the configuration; remove it there and reload", param="name")
    async with recorded(services.audit, act_of(request, who, "provider.remove", "provider", name)):
        await services.dynamic_providers.remove(name)
    await services.sync_providers()
    return Response(status_code=204)


@router.post("/v1/providers/{name}/check", summary="Check a provider", openapi_extra=described(Availability))
async def check_provider(request: Request, name: ProviderName, _who: Admin) -> Response:
    """Ask the provider something cheap that needs the credential, and say how long that took or why it failed."""
    return _json(await services_of(request).registry.check(name))


def _check(name: str, config: LLMProvider) -> None:
    """Hold it to what a provider in quorum.yaml is held to.

    Raises:
        InvalidRequest: with every fault.
    """
    try:
        check_spec(QuorumSpec(providers={name: config}), checks=Checks(provider=provider_faults))
    except ConfigError as error:
        faults = [fault.removeprefix(f"providers.{name}").removeprefix(".") for fault in error.faults]
        raise InvalidRequest("; ".join(faults), param=faults[0].partition(":")[0] or None) from None


def _shown(connection: Connection) -> ProviderEntry:
    config = connection.config
    return {
        "name": connection.name,
        "object": "provider",
        "kind": connection.provider.kind,
        "vendor": config.vendor if config else None,
        "base_url": config.base_url if config else None,
        "has_key": config is not None and config.api_key is not None,
        "dynamic": connection.dynamic,
    }


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
