"""A registry's redirects lead nowhere that only this machine can reach, and what lies there is never told."""

from __future__ import annotations

import logging

import pytest
from aiohttp import web
from tests.fakes.registry import FakeRegistry
from tests.unit.registry.conftest import Naps
from yarl import URL

from corral.errors import CorralError, RegistryError
from corral.names import ModelName
from corral.registry.client import RegistryClient, RetryPolicy, repository_of
from corral.registry.reach import Reach, check_redirect, reach_of


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
