"""GET /ui and what lies below it: the page's files, with a policy that lets them run and nothing else.

The page is a client of the public API in somebody's browser: nothing of it runs here. Imported by app.py with the first
request for it; nothing is kept between requests but the list of names.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path, PurePath

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from corral.aio import run_blocking

_ROOT = Path(__file__).parent / "ui"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Scripts and styles of this origin only, and none inside the document; no picture, font or call to anywhere else, so
# that an answer cannot send anything out by itself. Trusted Types: text becomes elements in the two libraries that are
# made for it, and in no other place, whatever the page's own code does.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types lit-html dompurify",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), usb=()",
    "Cache-Control": "no-cache",  # asked for each time, answered by 304: an update of the server is seen at once
}


async def page(request: Request) -> Response:
    """The page, or one of its files; 304 where the browser has it already."""
    name = request.path_params.get("name")
    if name == "":
        return RedirectResponse("../ui", 301)
    data = await run_blocking(_read, name or "index.html")
    if data is None:
        return PlainTextResponse("404 page not found", 404)
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=_TYPES[PurePath(name or "index.html").suffix])


def _read(name: str) -> bytes | None:
    path = _files().get(name)
    return None if path is None else path.read_bytes()


@cache
def _files() -> dict[str, Path]:
    """Name below /ui -> file. Only what was there is served, so that no name can lead elsewhere."""
    return {path.relative_to(_ROOT).as_posix(): path for path in _ROOT.rglob("*") if path.suffix in _TYPES}
