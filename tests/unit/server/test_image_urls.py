"""Images named by URL: fetched from public addresses only, in bounds."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from corral.api.anthropic import MessagesRequest
from corral.errors import InvalidRequest
from corral.server.anthropic.messages import read_conversation
from corral.server.openai import images
from corral.server.openai.images import fetch_images
from corral.server.openai.messages import read_messages
from corral.server.openai.responses.items import InputReader

PICTURE = b"\x89PNG and so on"


class Everywhere(AbstractResolver):
    """Resolves every name to this machine, unchecked."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        return [found]

    async def close(self) -> None:
        """Nothing to close."""


class Pictures:
    """A site of pictures on this machine; `visits` counts its requests."""

    def __init__(self) -> None:
        self.visits = 0
        self.port = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.visits += 1
        match request.path:
            case "/picture.png":
                return web.Response(body=PICTURE)
            case "/moved":
                raise web.HTTPFound("/picture.png")
            case "/to-loopback":
                raise web.HTTPFound(f"http://127.0.0.1:{self.port}/picture.png")
            case "/to-file":
                raise web.HTTPFound("file:///etc/passwd")
            case "/round":
                raise web.HTTPFound("/round")
            case "/large":
                return web.Response(body=bytes(2000))
        raise web.HTTPNotFound


@pytest.fixture
async def site() -> AsyncIterator[Pictures]:
    pictures = Pictures()
    application = web.Application()
    application.router.add_get("/{path:.*}", pictures.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    pictures.port = runner.addresses[0][1]
    try:
        yield pictures
    finally:
        await runner.cleanup()


def asking_for(*urls: str) -> list[Any]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}} for url in urls]}]


async def test_a_picture_is_put_into_its_message_and_a_redirect_followed(site: Pictures) -> None:
    base = f"http://pictures.example:{site.port}"
    wanted = asking_for(f"{base}/picture.png", "data:;base64,YWJj", f"{base}/moved")
    fetched = await fetch_images(wanted, enabled=True, resolver=Everywhere())
    (message,) = read_messages(wanted, fetched)
    assert message.images == (PICTURE, b"abc", PICTURE)


async def test_responses_and_messages_may_name_pictures_too(site: Pictures) -> None:
    url = f"http://pictures.example:{site.port}/picture.png"
    items: list[Any] = [
        {"role": "user", "content": [{"type": "input_image", "image_url": url}]},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": url}]},
    ]
    fetched = await fetch_images(items, enabled=True, resolver=Everywhere())
    assert [message.images for message in InputReader(fetched).read(items)] == [(PICTURE,), (PICTURE,)]
    image = {"type": "image", "source": {"type": "url", "url": url}}
    blocks = [image, {"type": "tool_result", "tool_use_id": "c", "content": [image]}]
    body = MessagesRequest(messages=[{"role": "user", "content": blocks}])
    fetched = await fetch_images(body.messages, enabled=True, resolver=Everywhere())
    assert [message.images for message in read_conversation(body, [], fetched)] == [(PICTURE,), (PICTURE,)]
    assert site.visits == 2


async def test_nothing_is_fetched_unless_enabled_and_only_so_many(site: Pictures) -> None:
    wanted = asking_for(*(f"http://pictures.example:{site.port}/picture.png?{n}" for n in range(17)))
    assert await fetch_images(wanted, enabled=False, resolver=Everywhere()) == {}
    with pytest.raises(InvalidRequest, match="at most 16"):
        await fetch_images(wanted, enabled=True, resolver=Everywhere())
    assert site.visits == 0


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("to-loopback", "private address"),
        ("to-file", "redirects to something that is not http"),
        ("round", "redirects more than 3 times"),
        ("large", "more than 1000 bytes"),
        ("nothing", "answered 404"),
    ],
)
async def test_what_a_site_may_not_do(site: Pictures, monkeypatch: pytest.MonkeyPatch, path: str, why: str) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", 1000)
    with pytest.raises(InvalidRequest, match=why):
        await fetch_images(
            asking_for(f"http://pictures.example:{site.port}/{path}"), enabled=True, resolver=Everywhere()
        )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_this_machine_is_never_asked_whatever_its_name(site: Pictures, host: str) -> None:
    with pytest.raises(InvalidRequest, match="private address"):
        await fetch_images(asking_for(f"http://{host}:{site.port}/picture.png"), enabled=True)
    assert site.visits == 0


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "[fe80::1]", "[fd00::1]"]
)
async def test_private_networks_are_never_asked(address: str) -> None:
    with pytest.raises(InvalidRequest, match="private address"):
        await fetch_images(asking_for(f"http://{address}/picture.png"), enabled=True)
