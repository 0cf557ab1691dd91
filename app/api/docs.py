"""Swagger UI at `/docs`, with its assets served by us, and the OpenAPI document."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from app.api.describe import described_problem, shapes
from app.api.idempotency.request import LONGEST_KEY

_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_PACKAGE = "fastapi_swagger"
_DESCRIPTION = """\
One answer from several language models, with the evidence for it.

Every request here runs as it stands on a service without configuration: press *Try it out*, then *Execute*."""

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    "description": "A key of your own, best a UUID: the request is run once, and answered the same for a day. "
    "409 while it runs (unless `Prefer: wait`), 422 with another body.",
    "examples": {"without": {"summary": "Without", "value": ""}},
}

_OF_KEYS = {
    "409": "A request with this Idempotency-Key is being answered; or something is there already.",
    "422": "The Idempotency-Key was used for another request.",
}


def install(app: FastAPI, version: str) -> None:
    """Add `/docs`, its assets and `/openapi.json` to `app`."""

    async def page(_request: object) -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Quorum",
            swagger_js_url="/docs/swagger-ui-bundle.js",
            swagger_css_url="/docs/swagger-ui.css",
            swagger_favicon_url="data:,",
            swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
        )

    async def document(_request: object) -> Response:
        return Response(orjson.dumps(app.openapi()), media_type="application/json")

    app.router.routes.append(Route("/docs", page, include_in_schema=False))
    app.router.routes.append(Route("/openapi.json", document, include_in_schema=False))
    for name, kind in _ASSETS.items():
        app.router.routes.append(Route(f"/docs/{name}", _asset(name, kind), include_in_schema=False))
    app.openapi = lambda: openapi_document(app, version)


def _asset(name: str, kind: str) -> Any:
    async def asset(_request: object) -> Response:
        with as_file(files(_PACKAGE) / "resources" / name) as path:
            return Response(path.read_bytes(), media_type=kind, headers={"cache-control": "public, max-age=86400"})

    return asset


def openapi_document(app: FastAPI, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title="Quorum", version=version, description=_DESCRIPTION, routes=app.routes)
        components = document.setdefault("components", {})
        components["schemas"] = shapes()
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                operation["responses"].pop("422", None)  # the framework's own; ours answer 400 with a problem
                if method == "post" and path.startswith("/v1/"):
                    operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
                    operation["responses"] |= {status: described_problem(when) for status, when in _OF_KEYS.items()}
                if path.startswith("/v1/"):
                    operation["security"] = [{"key": []}, {}]
        app.openapi_schema = document
    return app.openapi_schema
