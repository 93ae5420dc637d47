"""Images that clients name by URL: fetched only where the owner allows it, from public addresses only, size-capped.

Every address that a name resolves to is checked when the connection is made, so a name cannot be public when looked
at and private when used; redirects are followed by hand and checked again. Called by the routes of all three APIs
before they read messages: the readers find a URL's bytes in the table that `fetch_images` returns.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from corral.errors import InvalidRequest

MAX_IMAGE_BYTES = 20 * 2**20
MAX_IMAGES = 16
MAX_REDIRECTS = 3
TIMEOUT_S = 15.0


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The name's public addresses; raises InvalidRequest when one is not public."""
        found = await self._inner.resolve(host, port, family)
        for result in found:
            check_public(result["host"])
        return found

    async def close(self) -> None:
        """Nothing to close."""
        await self._inner.close()


def check_public(address: str) -> None:
    """Raise InvalidRequest unless a literal address is one that the whole internet can reach."""
    try:
        public = ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return
    if not public:
        raise InvalidRequest("image URL leads to a private address, which is refused", field="image_url")


async def fetch_images(messages: Any, *, enabled: bool, resolver: AbstractResolver | None = None) -> dict[str, bytes]:
    """The bytes of every image that `messages` (plain JSON) name by http URL; none where that is not enabled.

    `resolver` turns names into addresses; without one only public addresses are found. Raises InvalidRequest naming
    what went wrong.
    """
    urls = dict.fromkeys(image_urls(messages)) if enabled else {}
    if not urls:
        return {}
    if len(urls) > MAX_IMAGES:
        raise InvalidRequest(f"a request may name at most {MAX_IMAGES} images by URL", field="image_url")
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(resolver=resolver or PublicResolver(), force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        return {url: await _fetch(session, url) for url in urls}


def image_urls(items: Any) -> list[str]:
    """http URLs in the image parts of OpenAI's messages, Responses' items or Anthropic's blocks, in order."""
    found: list[str] = []
    for item in items if isinstance(items, list) else []:
        if isinstance(item, Mapping):
            url = _url_of(item)
            if isinstance(url, str) and url.startswith(("http://", "https://")):
                found.append(url)
            found += image_urls(item.get("content")) + image_urls(item.get("output"))
    return found


def _url_of(part: Mapping[str, Any]) -> Any:
    kind = part.get("type")
    if kind in ("image_url", "input_image"):  # a tuple: clients send types that have no hash
        image = part.get("image_url")
        return image.get("url") if isinstance(image, Mapping) else image
    source = part.get("source") if kind == "image" else None
    return source.get("url") if isinstance(source, Mapping) and source.get("type") == "url" else None


async def _fetch(session: aiohttp.ClientSession, url: str) -> bytes:
    try:
        for _ in range(MAX_REDIRECTS + 1):
            check_public((urlsplit(url).hostname or "").strip("[]"))
            async with session.get(url, allow_redirects=False) as response:
                if response.status in {301, 302, 303, 307, 308}:
                    url = urljoin(url, response.headers.get("Location", ""))
                    if not url.startswith(("http://", "https://")):
                        raise InvalidRequest("image URL redirects to something that is not http", field="image_url")
                    continue
                if response.status != 200:
                    raise InvalidRequest(f"image URL answered {response.status}", field="image_url")
                return await _read_bounded(response)
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise InvalidRequest(f"image URL could not be fetched: {type(error).__name__}", field="image_url") from error
    raise InvalidRequest(f"image URL redirects more than {MAX_REDIRECTS} times", field="image_url")


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        data += chunk
        if len(data) > MAX_IMAGE_BYTES:
            raise InvalidRequest(f"image URL has more than {MAX_IMAGE_BYTES} bytes", field="image_url")
    return bytes(data)
