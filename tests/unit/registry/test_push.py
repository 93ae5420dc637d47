from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from tests.fakes.registry import FakeRegistry, Fault, digest_of, status
from tests.unit.registry.conftest import Naps
from tests.unit.registry.tiny import statuses_of

from corral.errors import BlobMissing, InvalidModelName, ModelNotFound, RegistryError
from corral.names import Digest, ModelName
from corral.registry.service import Registry
from corral.store import manifests as media
from corral.store.manifests import Layer, Manifest
from corral.store.models import ModelStore

WEIGHTS = bytes(range(256)) * 5_000  # 1.28 MB
CONFIG = json.dumps({"model_format": "gguf", "architecture": "amd64", "os": "linux"}).encode()


@pytest.fixture
def reference(fake: FakeRegistry, store: ModelStore) -> str:
    text = f"{fake.host}/me/tiny"
    layers = []
    for media_type, data in ((media.MODEL, WEIGHTS), (media.SYSTEM, b"Be brief."), (media.CONFIG, CONFIG)):
        digest, _ = store.blobs.put(data)
        layers.append(Layer(media_type, digest, len(data)))
    store.write(ModelName.parse(text), Manifest(layers[-1], tuple(layers[:-1])))
    return text


def short(data: bytes) -> str:
    return Digest.parse(digest_of(data)).short


async def push(registry: Registry, reference: str) -> list[str]:
    statuses = await statuses_of(registry.push(reference, insecure=True))
    return list(dict.fromkeys(status.status for status in statuses))


def assert_there(fake: FakeRegistry, store: ModelStore, reference: str) -> None:
    assert fake.manifests["me/tiny", "latest"] == store.manifests.read(ModelName.parse(reference)).raw
    assert {digest_of(data) for data in (WEIGHTS, b"Be brief.", CONFIG)} <= set(fake.blobs)


@pytest.mark.parametrize("relative", [False, True])
async def test_a_push_sends_blobs_then_the_manifest_byte_for_byte(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str, relative: bool
) -> None:
    fake.relative_locations = relative
    pushing = [f"pushing {short(data)}" for data in (WEIGHTS, b"Be brief.", CONFIG)]
    assert await push(registry, reference) == ["retrieving manifest", *pushing, "pushing manifest", "success"]
    assert_there(fake, store, reference)
    assert not fake.uploads


async def test_what_the_registry_has_is_not_sent(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    await push(registry, reference)
    sent = [seen for seen in fake.seen if seen.method == "PATCH"]
    await push(registry, reference)
    assert [seen for seen in fake.seen if seen.method == "PATCH"] == sent


async def test_big_blobs_go_up_in_parts(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.registry.upload._SMALLEST_PART_BYTES", 500_000)
    await push(registry, reference)
    ranges = [seen.headers["Content-Range"] for seen in fake.seen if seen.method == "PATCH"]
    assert ranges[:3] == ["0-499999", "500000-999999", "1000000-1279999"]
    finish = next(seen for seen in fake.seen if seen.method == "PUT")
    assert finish.query["etag"].endswith("-3")
    assert finish.query["state"] == "a/b"
    assert_there(fake, store, reference)


async def test_a_layer_from_another_model_is_mounted(registry: Registry, fake: FakeRegistry, store: ModelStore) -> None:
    fake.blobs[digest_of(WEIGHTS)] = WEIGHTS
    digest, _ = store.blobs.put(WEIGHTS)
    name = ModelName.parse(f"{fake.host}/me/tiny")
    store.write(name, Manifest(None, (Layer(media.MODEL, digest, len(WEIGHTS), source="library/base"),)))
    fake.faults.append(_hide_blobs())
    await push(registry, name.full)
    post = next(seen for seen in fake.seen if seen.method == "POST")
    assert post.query == {"mount": str(digest), "from": "library/base"}
    assert not [seen for seen in fake.seen if seen.method == "PATCH"]


def _hide_blobs() -> Fault:

    async def fault(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=404) if request.method == "HEAD" else None

    return fault


async def test_a_refused_part_is_sent_again(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str, naps: Naps
) -> None:

    left = [500, 503, 401]

    async def fault(request: web.Request) -> web.StreamResponse | None:
        if request.method == "PATCH" and left:
            return web.Response(status=left.pop(0))
        return None

    fake.faults.append(fault)
    fake.token = "secret"
    left.remove(401)
    await push(registry, reference)
    assert naps.taken
    assert_there(fake, store, reference)


async def test_a_push_to_a_registry_with_tokens(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.token = "secret"
    await push(registry, reference)
    assert_there(fake, store, reference)


async def test_two_pushes_of_one_model_send_its_bytes_once(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    await asyncio.gather(push(registry, reference), push(registry, reference))
    sizes = [int(seen.headers["Content-Length"]) for seen in fake.seen if seen.method == "PATCH"]
    assert sum(sizes) == len(WEIGHTS) + len(b"Be brief.") + len(CONFIG)
    assert_there(fake, store, reference)


async def test_a_model_that_is_not_here_fails_before_the_first_status(registry: Registry) -> None:
    with pytest.raises(ModelNotFound, match=r"^model 'Nobody/none' not found$"):
        await anext(registry.push("Nobody/none"))


async def test_an_invalid_name_is_unqualified(registry: Registry) -> None:
    with pytest.raises(InvalidModelName, match=r"^unqualified name: a/!MISSING!/b:latest$"):
        await anext(registry.push("a//b"))


async def test_a_model_without_its_blob_is_not_pushed(registry: Registry, store: ModelStore, reference: str) -> None:
    store.blobs.remove(Digest.parse(digest_of(WEIGHTS)))
    with pytest.raises(BlobMissing):
        await anext(registry.push(reference, insecure=True))


async def test_a_refused_manifest_is_an_error(registry: Registry, fake: FakeRegistry, reference: str) -> None:

    async def fault(request: web.Request) -> web.StreamResponse | None:
        refuses = request.method == "PUT" and "/manifests/" in request.path
        return web.Response(status=400, text="manifest invalid") if refuses else None

    fake.faults.append(fault)
    with pytest.raises(RegistryError, match=r"^400: manifest invalid$"):
        await push(registry, reference)


async def test_a_plain_http_registry_needs_insecure(registry: Registry, fake: FakeRegistry, reference: str) -> None:
    fake.faults.append(status(1000, "/", 200))
    with pytest.raises(RegistryError):
        await statuses_of(registry.push(reference))
    assert not [seen for seen in fake.seen if seen.method in {"POST", "PATCH", "PUT"}]
