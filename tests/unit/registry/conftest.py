"""A fake registry, a store and a Registry whose clock does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes.registry import FakeRegistry
from tests.unit.registry import tiny

from corral.config import Settings
from corral.registry.client import RetryPolicy
from corral.registry.service import Registry
from corral.store import manifests as media
from corral.store.models import ModelStore


class Naps:
    """Stands in for sleep: remembers how long was asked for and does not wait."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().serve() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", models=tmp_path / "models", max_transfer_streams=4)


@pytest.fixture
async def registry(
    store: ModelStore, settings: Settings, naps: Naps, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Registry]:
    monkeypatch.setenv("HOME", str(settings.home))
    service = Registry(store, settings, policy=RetryPolicy(sleep=naps, stall_s=0.3, connect_s=5))
    yield service
    await service.close()


@pytest.fixture
def reference(fake: FakeRegistry) -> str:
    fake.add_model("library/tiny", "latest", {media.MODEL: tiny.WEIGHTS, media.TEMPLATE: tiny.TEMPLATE})
    return f"{fake.host}/library/tiny"
