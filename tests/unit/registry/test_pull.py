"""Pulling a model: what is told, what is kept, tokens and redirects, shared downloads, full disks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.fakes.registry import FakeRegistry, cut, digest_of, status, times, wrong_bytes
from tests.unit.registry.conftest import Naps
from tests.unit.registry.tiny import TEMPLATE, WEIGHTS, assert_whole, blob_names, digest, pull, statuses_of

from corral.config import Settings
from corral.core import TransferStatus
from corral.errors import (
    CloudDisabled,
    CorralError,
    InvalidModelName,
    NotEnoughSpace,
    RegistryError,
)
from corral.registry.client import RetryPolicy
from corral.registry.service import Registry
from corral.store import manifests as media
from corral.store.models import ModelStore


async def test_a_pull_tells_what_ollamas_does_and_keeps_the_manifest_byte_for_byte(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    statuses = await pull(registry, reference)
    order = list(dict.fromkeys(status.status for status in statuses))
    pulling = [f"pulling {digest(data).short}" for data in (WEIGHTS, TEMPLATE, b"{}")]
    assert order == ["pulling manifest", *pulling, "verifying sha256 digest", "writing manifest", "success"]
    last = [status for status in statuses if status.digest == digest_of(WEIGHTS)][-1]
    assert (last.total, last.completed) == (len(WEIGHTS), len(WEIGHTS))
    assert_whole(store, fake, reference)


async def test_plain_http_is_said(registry: Registry, reference: str) -> None:
    assert [notice.code for notice in (await pull(registry, reference))[-1].notices] == ["insecure_transport"]


async def test_what_is_here_is_not_fetched_again(registry: Registry, fake: FakeRegistry, reference: str) -> None:
    await pull(registry, reference)
    before = len(fake.blob_requests())
    statuses = await pull(registry, reference)
    assert len(fake.blob_requests()) == before
    assert [status.completed for status in statuses if status.digest == digest_of(WEIGHTS)] == [len(WEIGHTS)]
    assert not any("removing" in status.status for status in statuses)


async def test_blobs_of_the_old_version_are_removed(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    await pull(registry, reference)
    fake.add_model("library/tiny", "latest", {media.MODEL: WEIGHTS, media.TEMPLATE: b"new"})
    statuses = await pull(registry, reference)
    assert [status.status for status in statuses][-2:] == ["removing unused layers", "success"]
    assert_whole(store, fake, reference)


async def test_an_unknown_model_has_ollamas_text(registry: Registry, fake: FakeRegistry) -> None:
    statuses = registry.pull(f"{fake.host}/library/none", insecure=True)
    assert (await anext(statuses)).status == "pulling manifest"
    with pytest.raises(RegistryError, match=r"^pull model manifest: file does not exist$"):
        await anext(statuses)


@pytest.mark.parametrize(
    ("name", "error"), [("", InvalidModelName), ("a//b", InvalidModelName), ("x:cloud", CloudDisabled)]
)
async def test_a_bad_name_fails_before_the_first_status(
    registry: Registry, name: str, error: type[CorralError]
) -> None:
    with pytest.raises(error):
        await anext(registry.pull(name))


async def test_a_plain_http_name_needs_insecure(registry: Registry, fake: FakeRegistry) -> None:
    with pytest.raises(RegistryError, match=r"^insecure protocol http$"):
        await statuses_of(registry.pull(f"{fake.url}/library/tiny"))
    assert not fake.seen


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("path", ["/manifests/", "/blobs/", "/token"])
async def test_come_back_later_is_done(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str, naps: Naps, code: int, path: str
) -> None:
    fake.token = "secret"
    fake.faults.append(status(1, path, code, {"Retry-After": "7"}))
    await pull(registry, reference)
    assert naps.taken == [7]
    assert_whole(store, fake, reference)


async def test_a_retry_after_date_is_understood(
    registry: Registry, fake: FakeRegistry, reference: str, naps: Naps
) -> None:
    import time

    fake.faults.append(status(1, "/manifests/", 429, {"Retry-After": formatdate(time.time() + 60, usegmt=True)}))
    await pull(registry, reference)
    assert 50 < naps.taken[0] <= 60


async def test_being_sent_away_for_ever_is_an_error(
    registry: Registry, fake: FakeRegistry, reference: str, naps: Naps
) -> None:
    fake.faults.append(status(1000, "/manifests/", 429, text="slow down"))
    with pytest.raises(RegistryError, match=r"^pull model manifest: 429: slow down$") as caught:
        await pull(registry, reference)
    assert caught.value.status == 429
    assert naps.taken == [0.5, 1, 2, 4, 8]


async def test_a_token_is_fetched_and_used(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.token = "secret"
    await pull(registry, reference)
    assert_whole(store, fake, reference)
    asked = [seen for seen in fake.seen if seen.path == "/token"]
    assert asked[0].query["service"] == "fake"
    assert asked[0].headers["Authorization"].startswith("AAAA")


async def test_a_second_401_is_access_denied(registry: Registry, fake: FakeRegistry, reference: str) -> None:
    fake.token = "secret"
    fake.faults.append(
        times(1000, "/manifests/", lambda _: _challenge(fake.url))  # whatever the token
    )
    with pytest.raises(RegistryError, match=r"^pull model manifest: unauthorized: access denied$"):
        await pull(registry, reference)


async def _challenge(url: str) -> web.StreamResponse:
    return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{url}/token"'})


async def test_a_foreign_realm_gets_no_signature(registry: Registry, fake: FakeRegistry, reference: str) -> None:
    async with FakeRegistry().serve() as other:
        fake.token, fake.realm = "secret", f"{other.url}/token"
        with pytest.raises(RegistryError, match="does not match original host"):
            await pull(registry, reference)
        assert not other.seen


async def test_a_redirect_elsewhere_gets_no_token(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    async with FakeRegistry(blobs=dict(fake.blobs)).serve() as cdn:
        fake.token, fake.redirect_to = "secret", cdn.url
        await pull(registry, reference)
        assert cdn.seen
        assert all("Authorization" not in seen.headers for seen in cdn.seen)
    assert_whole(store, fake, reference)


async def test_an_expired_direct_url_is_asked_for_anew(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    async with FakeRegistry(blobs=dict(fake.blobs)).serve() as cdn:
        fake.redirect_to = cdn.url
        cdn.faults += [cut(cdn, 1, 600_000), status(1, "/blobs/", 403, text="expired")]
        await pull(registry, reference)
    assert_whole(store, fake, reference)


async def test_redirects_in_a_circle_end(registry: Registry, fake: FakeRegistry, reference: str) -> None:
    fake.faults.append(status(1000, "/manifests/", 302, {"Location": "/v2/library/tiny/manifests/latest"}))
    with pytest.raises(RegistryError, match="maximum redirects exceeded"):
        await pull(registry, reference)


async def test_a_mirror_is_asked_first_and_the_registry_last(
    store: ModelStore, settings: Settings, naps: Naps, fake: FakeRegistry, reference: str
) -> None:
    async with FakeRegistry(blobs=dict(fake.blobs), manifests=dict(fake.manifests)).serve() as mirror:
        mirror.faults.append(wrong_bytes(mirror, 1))
        settings = replace(settings, mirrors=(f"{fake.host}={mirror.url}",))
        service = Registry(store, settings, policy=RetryPolicy(sleep=naps))
        await pull(service, reference)
        await service.close()
        assert any("/manifests/" in seen.path for seen in mirror.seen)
    assert not any("/manifests/" in seen.path for seen in fake.seen)
    assert {seen.path.rpartition("/")[2] for seen in fake.blob_requests()} == {digest_of(WEIGHTS)}
    assert_whole(store, fake, reference)


async def test_two_pulls_share_one_download_and_one_may_leave(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.pace_s = 0.005
    stayer = asyncio.create_task(pull(registry, reference))
    async with aclosing(registry.pull(reference, insecure=True)) as leaver:
        await _until_bytes(leaver)
    await stayer
    assert_whole(store, fake, reference)
    assert fake.body_bytes == len(WEIGHTS) + len(TEMPLATE) + 2


async def test_when_the_last_one_leaves_the_download_stops_and_can_be_resumed(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.pace_s = 0.005
    async with aclosing(registry.pull(reference, insecure=True)) as leaver:
        await _until_bytes(leaver)
    sent = fake.body_bytes
    assert 0 < sent < len(WEIGHTS)
    await asyncio.sleep(0.1)
    assert fake.body_bytes < len(WEIGHTS)  # the registry noticed, too
    fake.pace_s = 0
    fake.body_bytes = 0
    await pull(registry, reference)
    assert fake.body_bytes < len(WEIGHTS)
    assert_whole(store, fake, reference)


async def test_a_cancelled_pull_ends_its_download(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str
) -> None:
    fake.pace_s = 0.005
    task = asyncio.create_task(pull(registry, reference))
    while fake.body_bytes < 200_000:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with store.blobs.partial(digest(WEIGHTS)) as file:
        assert file is not None  # nobody holds its lock
    assert not store.manifests.names()
    assert not [name for name in blob_names(store) if "reserve" in name]


async def _until_bytes(statuses: AsyncIterator[TransferStatus]) -> None:
    async for item in statuses:
        if item.completed > 0:
            return


async def test_a_model_that_does_not_fit_the_disk_is_refused_before_a_byte(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.store.blobs.free_bytes", lambda _: 1000)
    with pytest.raises(NotEnoughSpace, match=r"^not enough space: need \d+ bytes, free 1000 bytes$"):
        await pull(registry, reference)
    assert not fake.blob_requests()
    assert not blob_names(store)


async def test_a_disk_that_fills_up_on_the_way_is_left_as_it_was(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def full(fd: int, data: Any, offset: int) -> int:
        if offset > 500_000:
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NotEnoughSpace):
        await pull(registry, reference)
    assert not blob_names(store)


async def test_tensor_models_are_refused(registry: Registry, fake: FakeRegistry) -> None:
    fake.add_model("library/mlx", "latest", {media.TENSOR: b"x"})
    with pytest.raises(RegistryError, match="this model requires MLX support, but the MLX runtime is not available"):
        await pull(registry, f"{fake.host}/library/mlx")


async def test_a_name_in_another_case_overwrites_the_stored_one(
    registry: Registry, store: ModelStore, reference: str
) -> None:
    await pull(registry, reference)
    await pull(registry, reference.replace("tiny:", "TINY:"))
    assert len(store.manifests.names()) == 1


async def test_downloads_keep_to_the_rate_limit(
    store: ModelStore, settings: Settings, naps: Naps, reference: str
) -> None:
    service = Registry(store, replace(settings, limit_rate=1_000_000), policy=RetryPolicy(sleep=naps))
    await pull(service, reference)
    await service.close()
    assert sum(delay > 0 for delay in naps.taken) > 5
    assert naps.taken[-1] == pytest.approx(1.6, abs=0.4)  # the debt grows, since these naps take no time


async def test_an_empty_blob_needs_no_request(registry: Registry, fake: FakeRegistry, store: ModelStore) -> None:
    fake.add_model("library/tiny", "latest", {media.MODEL: WEIGHTS, media.SYSTEM: b""})
    await pull(registry, f"{fake.host}/library/tiny")
    assert store.blobs.has(digest(b""))


async def test_many_parts_at_once_make_the_same_bytes(
    registry: Registry, fake: FakeRegistry, store: ModelStore, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.registry.parts._SMALLEST_PART_BYTES", 100_000)
    monkeypatch.setattr("corral.registry.parts._AIM", 1000)
    fake.faults += [cut(fake, 5, 30_000)]
    await pull(registry, reference)
    assert_whole(store, fake, reference)
    assert len([seen for seen in fake.blob_requests() if digest_of(WEIGHTS) in seen.path]) >= 16


def test_the_store_path_is_not_touched_by_constructing(tmp_path: Path, settings: Settings) -> None:
    Registry(ModelStore(tmp_path / "none"), settings)
    assert not (tmp_path / "none").exists()
    assert not settings.home.exists()
