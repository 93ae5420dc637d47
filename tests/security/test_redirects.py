"""A registry's redirects lead nowhere that only this machine can reach, and what lies there is never told."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.fakes.registry import FakeRegistry, Fault, status, times
from tests.unit.registry.conftest import Naps
from tests.unit.registry.tiny import pull, statuses_of
from yarl import URL

from corral.config import Settings
from corral.errors import CorralError, RegistryError
from corral.names import ModelName
from corral.registry.client import RegistryClient, RetryPolicy, repository_of
from corral.registry.reach import Reach, check_redirect, reach_of
from corral.registry.service import Registry
from corral.store import manifests as media
from corral.store.manifests import Layer, Manifest
from corral.store.models import ModelStore


@pytest.mark.parametrize(
    ("addresses", "reach"),
    [
        (["93.184.216.34"], Reach.PUBLIC),
        (["93.184.216.34", "10.0.0.1"], Reach.PRIVATE),
        (["192.168.1.1"], Reach.PRIVATE),
        (["100.64.0.1"], Reach.PRIVATE),
        (["fd00::1"], Reach.PRIVATE),
        (["127.0.0.1"], Reach.THIS_MACHINE),
        (["127.9.9.9"], Reach.THIS_MACHINE),
        (["::1"], Reach.THIS_MACHINE),
        (["0.0.0.0"], Reach.THIS_MACHINE),
        (["::"], Reach.THIS_MACHINE),
        (["::ffff:127.0.0.1"], Reach.THIS_MACHINE),
        (["::ffff:10.0.0.1"], Reach.PRIVATE),
        (["169.254.169.254"], Reach.LINK_LOCAL),
        (["fe80::1%eth0"], Reach.LINK_LOCAL),
        (["224.0.0.1"], Reach.PRIVATE),
    ],
)
def test_how_near_an_address_is(addresses: list[str], reach: Reach) -> None:
    assert reach_of(addresses) is reach


@pytest.mark.parametrize(
    ("base", "target", "allowed"),
    [
        ("https://93.184.216.34", "https://93.184.216.35/x", True),
        ("https://93.184.216.34", "http://10.0.0.1/x", False),
        ("https://93.184.216.34", "http://127.0.0.1:11434/x", False),
        ("https://93.184.216.34", "http://localhost/x", False),
        ("https://93.184.216.34", "http://a.localhost./x", False),
        ("https://93.184.216.34", "http://[::ffff:127.0.0.1]/x", False),
        ("https://93.184.216.34", "http://169.254.169.254/latest", False),
        ("https://10.0.0.5", "http://10.0.0.9/x", True),
        ("https://10.0.0.5", "http://127.0.0.1/x", False),
        ("https://10.0.0.5", "http://169.254.169.254/latest", False),
        ("http://127.0.0.1:5000", "http://127.0.0.1:9000/x", True),
        ("http://127.0.0.1:5000", "http://10.0.0.9/x", True),
        ("http://127.0.0.1:5000", "http://169.254.169.254/latest", False),
        ("http://169.254.1.1", "http://169.254.1.1/x", True),
    ],
)
@pytest.mark.parametrize("proxied", [False, True])
async def test_where_a_registry_may_send_us(base: str, target: str, allowed: bool, proxied: bool) -> None:
    if allowed:
        await check_redirect(URL(base), URL(target), proxied=proxied)
        return
    with pytest.raises(RegistryError, match="private address"):
        await check_redirect(URL(base), URL(target), proxied=proxied)


def make_client(naps: Naps) -> RegistryClient:
    return RegistryClient(lambda: pytest.fail("no token is asked for"), RetryPolicy(sleep=naps, connect_s=1))


async def read_manifest(fake: FakeRegistry, client: RegistryClient) -> bytes:
    name = ModelName.parse(f"http://{fake.host}/a/b:1")
    return await client.manifest(repository_of(name, "http"), "1")


async def test_a_redirect_to_the_clouds_secrets_is_refused_before_a_connection(naps: Naps, fake: FakeRegistry) -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://169.254.169.254/latest/meta-data"})

    fake.faults.append(redirect)
    client = make_client(naps)
    with pytest.raises(RegistryError, match="private address"):
        await read_manifest(fake, client)
    await client.close()


async def test_a_name_that_leads_elsewhere_once_it_was_looked_at_is_refused(
    naps: Naps, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is harmless, the next ones, with which the connection is made, are not."""
    answers = [(socket.AF_INET, ("127.0.0.1", 80))]
    near = (socket.AF_INET6, ("fe80::1", 80, 0, 0))  # no interface is named: nobody could connect to it

    async def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert (host, port) == ("rebinding.test", 80)
        family, address = answers.pop() if answers else near
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)]

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://rebinding.test/latest/meta-data"})

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    fake.faults.append(redirect)
    client = make_client(naps)
    with pytest.raises(CorralError, match="name not known"):
        await read_manifest(fake, client)
    await client.close()
    assert answers == []


async def test_what_another_origin_answers_is_not_quoted(naps: Naps, fake: FakeRegistry) -> None:
    async with FakeRegistry().serve() as inner:

        async def secret(request: web.Request) -> web.Response:
            return web.Response(status=403, text="AWS_SECRET=hunter2")

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": f"{inner.url}/internal"})

        inner.faults.append(secret)
        fake.faults.append(redirect)
        client = make_client(naps)
        with pytest.raises(CorralError) as caught:
            await read_manifest(fake, client)
        await client.close()
    assert "hunter2" not in str(caught.value)
    assert "403" in str(caught.value)


async def test_a_login_in_a_mirrors_url_is_not_in_errors(naps: Naps, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = make_client(naps)
    base = URL("http://mirroruser:mirrorpass@127.0.0.1:9")
    repository = repository_of(ModelName.parse("a/b:1"), "http")
    repository = type(repository)(base, repository.path)
    with pytest.raises(CorralError) as caught:
        await client.manifest(repository, "1")
    await client.close()
    assert "mirrorpass" not in str(caught.value) + caplog.text
    assert repository.place == "http://127.0.0.1:9"
    assert "object at 0x" not in str(caught.value)


WEIGHTS = b"GGUF" * 100
METADATA = "http://169.254.169.254/latest/meta-data"


@pytest.fixture
async def registry(tmp_path: Path, naps: Naps, fake: FakeRegistry) -> AsyncIterator[Registry]:
    """A client with a model to push, and a registry with one to pull."""
    fake.add_model("library/m", "latest", {media.MODEL: WEIGHTS})
    store = ModelStore(tmp_path / "models")
    digest, _ = store.blobs.put(b"mine")
    store.write(ModelName.parse(f"{fake.host}/me/mine"), Manifest(None, (Layer(media.MODEL, digest, 4),)))
    settings = Settings(home=tmp_path / "home", models=store.root)
    service = Registry(store, settings, policy=RetryPolicy(sleep=naps, stall_s=0.3, connect_s=1))
    yield service
    await service.close()


def sends(method: str, part: str, code: int, header: str, target: str) -> Fault:
    """Every such request is sent elsewhere."""

    async def fault(request: web.Request) -> web.StreamResponse | None:
        if request.method != method or part not in request.path:
            return None
        return web.Response(status=code, headers={header: target})

    return fault


WAYS = [
    ("GET", "/manifests/", 307, "Location"),
    ("GET", "/blobs/", 302, "Location"),
    ("HEAD", "/blobs/", 301, "Location"),
    ("POST", "/uploads/", 202, "Location"),
    ("POST", "/uploads/", 202, "Docker-Upload-Location"),
    ("PATCH", "/uploads/", 202, "Location"),
    ("PATCH", "/uploads/", 307, "Location"),
]
NOWHERE = [METADATA, "file:///etc/passwd", "gopher://127.0.0.1/", "http://[::1", "http://h:99999/", "data:,x"]


@pytest.mark.parametrize("target", NOWHERE)
@pytest.mark.parametrize(("method", "part", "code", "header"), WAYS)
async def test_wherever_a_registry_may_name_an_address_it_is_looked_at(
    registry: Registry, fake: FakeRegistry, method: str, part: str, code: int, header: str, target: str
) -> None:
    fake.faults.append(sends(method, part, code, header, target))
    asked = f"{fake.host}/library/m" if method == "GET" else f"{fake.host}/me/mine"
    transfer = (registry.pull if method == "GET" else registry.push)(asked, insecure=True)
    with pytest.raises(RegistryError, match=r"private address|no http|no URL"):
        await statuses_of(transfer)


async def test_an_upload_that_is_sent_nowhere_is_an_error_of_the_registry(
    registry: Registry, fake: FakeRegistry
) -> None:
    fake.faults.append(sends("PATCH", "/uploads/", 307, "Docker-Upload-Location", f"{fake.url}/v2/me/mine"))
    with pytest.raises(RegistryError, match="no Location"):
        await statuses_of(registry.push(f"{fake.host}/me/mine", insecure=True))


@pytest.mark.parametrize("answer", ["another size", "other bytes", "403", "500", "a manifest", "too much"])
async def test_what_lies_at_another_origin_is_not_measured_and_not_quoted(
    registry: Registry, fake: FakeRegistry, answer: str
) -> None:
    """Neither its words nor how many, nor what they hash to."""
    secret = b"AWS_SECRET=hunter2-internal-only"
    part = "/manifests/" if answer in {"a manifest", "too much"} else "/blobs/"
    async with FakeRegistry().serve() as inner:

        async def tell(request: web.BaseRequest) -> web.StreamResponse:
            body = secret.ljust(len(WEIGHTS)) if answer == "other bytes" else secret
            body = secret * (2**19 + 1) if answer == "too much" else body
            return web.Response(status=int(answer) if answer.isdecimal() else 200, body=body)

        inner.faults.append(times(1000, "", tell))
        fake.faults.append(sends("GET", part, 307, "Location", f"{inner.url}/internal"))
        with pytest.raises(CorralError) as caught:
            await pull(registry, f"{fake.host}/library/m")
        assert inner.seen
    for word in ("hunter2", f"has {len(secret)}", ", got "):
        assert word not in str(caught.value)


async def test_what_the_registry_itself_says_is_told(registry: Registry, fake: FakeRegistry) -> None:
    fake.faults.append(status(100, "/manifests/", 403, text="you are not on the list"))
    with pytest.raises(RegistryError, match="403: you are not on the list"):
        await pull(registry, f"{fake.host}/library/m")
