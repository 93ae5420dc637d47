"""Registry token theft: our key signs for the registry itself only, and what it gave for that goes nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.fakes.registry import FakeRegistry, times
from tests.unit.registry.conftest import Naps
from tests.unit.registry.tiny import pull

from corral.config import Settings
from corral.errors import RegistryError
from corral.registry.client import RetryPolicy
from corral.registry.service import Registry
from corral.store import manifests as media
from corral.store.models import ModelStore

TOKEN = "token-of-the-registry"


@pytest.fixture
async def registry(tmp_path: Path, naps: Naps, fake: FakeRegistry) -> AsyncIterator[Registry]:
    """A client, and a registry that wants a token for `library/tiny`."""
    fake.token = TOKEN
    fake.add_model("library/tiny", "latest", {media.MODEL: b"GGUF" * 100})
    settings = Settings(home=tmp_path / "home", models=tmp_path / "models")
    service = Registry(ModelStore(settings.models), settings, policy=RetryPolicy(sleep=naps, stall_s=0.3, connect_s=5))
    yield service
    await service.close()


@pytest.fixture
async def thief() -> AsyncIterator[FakeRegistry]:
    """Another origin, which writes down what it is told."""
    async with FakeRegistry().serve() as running:
        yield running


async def test_a_realm_elsewhere_is_asked_nothing(registry: Registry, fake: FakeRegistry, thief: FakeRegistry) -> None:
    host = fake.host
    realms = [
        f"{thief.url}/token",
        f"http://{host}@{thief.host}/token",
        f"{thief.url}/token?x={host}",
        f"{thief.url}#{fake.url}/token",
        f"https://{host}/token",  # another scheme is another origin
        f"//{thief.host}/token",
    ]
    for realm in realms:
        fake.realm = realm
        with pytest.raises(RegistryError):
            await pull(registry, f"{host}/library/tiny")
    assert thief.seen == []


@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
async def test_no_token_and_no_signature_goes_along_a_redirect(
    registry: Registry, fake: FakeRegistry, thief: FakeRegistry, part: str
) -> None:
    async def away(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"{thief.url}{request.path}"})

    fake.faults.append(times(100, part, away))
    thief.blobs, thief.manifests = fake.blobs, fake.manifests
    try:
        await pull(registry, f"{fake.host}/library/tiny")
    except RegistryError:
        assert thief.seen == []  # refused before anything was sent
    for seen in thief.seen:
        assert "Authorization" not in seen.headers
        assert TOKEN not in str(seen)


async def test_a_thief_that_asks_for_a_token_gets_none(
    registry: Registry, fake: FakeRegistry, thief: FakeRegistry
) -> None:
    thief.token, thief.realm = "of-the-thief", f"{fake.url}/token"
    fake.redirect_to = thief.url
    thief.blobs = fake.blobs
    with pytest.raises(RegistryError):
        await pull(registry, f"{fake.host}/library/tiny")
    assert all("Authorization" not in seen.headers for seen in thief.seen)
