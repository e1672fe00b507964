"""`GET /console`: a page that shows what the gateway does. The page itself is for anyone; what it shows needs an admin key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from gateway.errors import GatewayError

PAGE = "index.html"
MEDIA = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page. `tag`: tells one state of it from another."""

    content: bytes
    media: str
    tag: str


def assets() -> Mapping[str, Asset]:
    """All files of the page by name, as the package has them."""
    found = {}
    for file in files("gateway").joinpath("console").iterdir():
        media = MEDIA.get(file.name.rpartition(".")[2])
        if media is not None:
            content = file.read_bytes()
            found[file.name] = Asset(content, media, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found


def router() -> APIRouter:
    api = APIRouter(tags=["console"])
    known = assets()

    def answer(request: Request, name: str) -> Response:
        asset = known.get(name)
        if asset is None:
            raise GatewayError("not_found", "there is nothing at this path")
        headers = {**HEADERS, "etag": asset.tag, "content-type": asset.media}
        if request.headers.get("if-none-match") == asset.tag:
            return Response(status_code=304, headers=headers)
        return Response(asset.content, headers=headers)

    @api.get("/console", summary="The console: a page that shows what the gateway does", response_class=HTMLResponse)
    async def console(request: Request) -> Response:
        return answer(request, PAGE)

    @api.get("/console/{name}", summary="A file of the console", response_class=Response)
    async def console_file(request: Request, name: str) -> Response:
        return answer(request, name)

    return api
