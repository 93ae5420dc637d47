"""Bytes on their way: cut, stalled, repeated, wrong, and manifests that lie about them."""

from __future__ import annotations

import gzip
import json
import os

import pytest
from aiohttp import web
from tests.fakes.registry import FakeRegistry, cut, digest_of, stall, status, times, wrong_bytes
from tests.unit.registry.conftest import Naps
from tests.unit.registry.tiny import TEMPLATE, WEIGHTS, assert_whole, blob_names, digest, pull

from corral.errors import (
    DigestMismatch,
    RegistryError,
)
from corral.registry.service import Registry
from corral.store import files
from corral.store.models import ModelStore


@pytest.mark.parametrize("after", [0, 1, 16_384, 500_000, len(WEIGHTS) - 1])
async def test_a_cut_download_goes_on_from_its_last_byte(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str, after: int
) -> None:
    fake.faults.append(cut(fake, 3, after))
    await pull(registry, reference)
    assert_whole(store, fake, reference)
    lost = fake.body_bytes - len(WEIGHTS) - len(TEMPLATE) - 2
    assert 0 <= lost < 2**20  # no more than the HTTP client held unread when the connection broke


async def test_a_stalled_download_goes_on_from_its_last_byte(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.faults.append(stall(fake, 1, 600_000))
    await pull(registry, reference)
    assert_whole(store, fake, reference)
    assert fake.body_bytes == len(WEIGHTS) + len(TEMPLATE) + 2


async def test_a_registry_that_never_delivers_is_given_up(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str, naps: Naps
) -> None:
    fake.faults.append(cut(fake, 1000, 0))
    with pytest.raises(RegistryError, match=r"^max retries exceeded: "):
        await pull(registry, reference)
    assert naps.taken == [0.5, 1, 2, 4, 8]
    assert not store.blobs.has(digest(WEIGHTS))


async def test_a_server_without_ranges_gets_no_bytes_appended(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.has_ranges = False
    fake.faults.append(cut(fake, 2, 700_000))
    await pull(registry, reference)
    assert_whole(store, fake, reference)


async def test_416_starts_the_blob_over(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.faults += [cut(fake, 1, 700_000), status(1, "/blobs/", 416)]
    await pull(registry, reference)
    assert_whole(store, fake, reference)


async def test_a_range_other_than_the_one_asked_for_starts_the_blob_over(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    async def lie(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=206, body=WEIGHTS[:9], headers={"Content-Range": f"bytes 0-8/{len(WEIGHTS)}"})

    fake.faults += [cut(fake, 1, 700_000), times(1, "/blobs/", lie)]
    await pull(registry, reference)
    assert_whole(store, fake, reference)


async def test_wrong_bytes_are_fetched_once_more(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.faults.append(wrong_bytes(fake, 1))
    await pull(registry, reference)
    assert_whole(store, fake, reference)


async def test_wrong_bytes_never_get_a_blobs_name(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.faults.append(wrong_bytes(fake, 1000))
    want, got = digest_of(WEIGHTS), digest_of(bytes(len(WEIGHTS)))
    with pytest.raises(DigestMismatch) as caught:
        await pull(registry, reference)
    assert str(caught.value) == f"digest mismatch, file must be downloaded again: want {want}, got {got}"
    assert not blob_names(store)
    assert not store.manifests.names()


async def test_resumed_bytes_that_rotted_on_disk_are_found_out(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    partial = store.blobs.partial_path(digest(WEIGHTS))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(len(WEIGHTS)))
    record = {"N": 0, "Offset": 0, "Size": len(WEIGHTS), "Completed": 1000}
    partial.with_name(f"{partial.name}-0").write_text(json.dumps(record))
    await pull(registry, reference)
    assert_whole(store, fake, reference)


async def test_a_partial_of_ollamas_is_resumed(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    partial = store.blobs.partial_path(digest(WEIGHTS))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(WEIGHTS[:1_000_000] + bytes(len(WEIGHTS) - 1_000_000))
    for number, (offset, size, completed) in enumerate([(0, 1_000_000, 1_000_000), (1_000_000, 600_000, 0)]):
        record = {"N": number, "Offset": offset, "Size": size, "Completed": completed}
        partial.with_name(f"{partial.name}-{number}").write_text(json.dumps(record))
    await pull(registry, reference)
    assert_whole(store, fake, reference)
    assert fake.body_bytes == 600_000 + len(TEMPLATE) + 2


@pytest.mark.parametrize("change", [-1, 1, 10**12])
async def test_a_manifest_that_lies_about_a_size_is_refused(
    registry: Registry,
    fake: FakeRegistry,
    store: ModelStore,
    reference: str,
    change: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: 10**15)
    monkeypatch.setattr("corral.store.blobs.free_bytes", lambda _: 10**15)
    document = json.loads(fake.manifests["library/tiny", "latest"])
    document["layers"][0]["size"] += change
    fake.manifests["library/tiny", "latest"] = json.dumps(document).encode()
    with pytest.raises(RegistryError, match=f"has {len(WEIGHTS)} bytes, the manifest says {len(WEIGHTS) + change}"):
        await pull(registry, reference)
    assert not store.manifests.names()
    assert not store.blobs.has(digest(WEIGHTS))


async def test_a_manifest_that_lies_about_a_blob_that_is_here_is_refused(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    store.blobs.put(WEIGHTS)
    document = json.loads(fake.manifests["library/tiny", "latest"])
    document["layers"][0]["size"] -= 1
    fake.manifests["library/tiny", "latest"] = json.dumps(document).encode()
    with pytest.raises(RegistryError, match="the manifest says"):
        await pull(registry, reference)
    store.blobs.verify(digest(WEIGHTS))


async def test_a_blob_cut_on_disk_is_fetched_again(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    store.blobs.put(WEIGHTS)
    os.truncate(store.blobs.path(digest(WEIGHTS)), 100)
    await pull(registry, reference)
    assert_whole(store, fake, reference)


@pytest.mark.parametrize("packed", [False, True])
async def test_a_huge_manifest_is_refused_after_8_mib(
    registry: Registry, fake: FakeRegistry, reference: str, packed: bool
) -> None:
    body = b'{"layers":[' + b" " * (64 * 2**20)

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Encoding": "gzip"} if packed else {}
        return web.Response(body=gzip.compress(body, 1) if packed else body, headers=headers)

    fake.faults.append(times(1000, "/manifests/", answer))
    with pytest.raises(RegistryError, match="manifest is larger than 8 MiB"):
        await pull(registry, reference)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"layers":[{}]}', b'{"layers":"x"}', b"[" * 100_000])
async def test_a_manifest_that_is_none_is_refused(
    registry: Registry, fake: FakeRegistry, reference: str, body: bytes
) -> None:
    fake.manifests["library/tiny", "latest"] = body
    with pytest.raises(RegistryError, match=r"^pull model manifest: "):
        await pull(registry, reference)
