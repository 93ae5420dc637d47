"""What is told of a model before its weights are fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.ggufs import make_gguf
from tests.fakes.library import GOLDEN, KitModel
from tests.fakes.registry import FakeRegistry
from tests.unit.registry import tiny

from corral.registry import pull
from corral.registry.service import Registry
from corral.store import manifests as media
from corral.store.models import ModelStore


def publish(fake: FakeRegistry, name: str, weights: Path, *, tail_bytes: int = 0) -> str:
    """A model of these weights, with so many bytes after what the header needs; its reference."""
    fake.add_model(f"library/{name}", "latest", {media.MODEL: weights.read_bytes() + bytes(tail_bytes)})
    return f"{fake.host}/library/{name}"


@pytest.fixture
def solar(fake: FakeRegistry, tmp_path: Path) -> str:
    """A model of an architecture that the engine does not know."""
    return publish(fake, "solar", make_gguf(tmp_path / "s.gguf", "solar", {}, {"w": (2, 2)}))


async def test_a_monolithic_vision_model_is_known_to_see_by_its_header(fake: FakeRegistry, registry: Registry) -> None:
    reference = publish(fake, "gemma3", KitModel(GOLDEN, "gemma3-vision-q4").weights, tail_bytes=4 * 2**20)
    remote = await registry.remote(reference, insecure=True)
    assert str(remote.verdict) == "runs here, sees images"
    assert remote.verdict.is_translated
    assert fake.body_bytes < 2 * 2**20


async def test_an_unknown_architecture_is_told_by_its_header(registry: Registry, solar: str) -> None:
    remote = await registry.remote(solar, insecure=True)
    assert not remote.verdict.runs
    assert '"solar"' in remote.verdict.why_not


async def test_a_large_model_that_cannot_run_is_told_before_it_is_fetched(
    registry: Registry, solar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_WORTH_A_LOOK_BYTES", 1)
    told = [status.status for status in await tiny.pull(registry, solar)]
    assert told[0] == "pulling manifest"
    assert told[1].endswith(
        '/solar:latest cannot run here: its architecture, "solar", is not one that this server\'s '
        "engine knows; a newer Corral may know it; else look for another build of the model, as a GGUF for llama.cpp"
    )
    assert told[2].startswith("pulling ")
    assert told[-1] == "success"


async def test_a_model_that_runs_is_fetched_without_a_word(
    fake: FakeRegistry, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_WORTH_A_LOOK_BYTES", 1)
    reference = publish(fake, "gemma3", KitModel(GOLDEN, "gemma3-vision-q4").weights)
    assert not [status for status in await tiny.pull(registry, reference) if "here" in status.status]


async def test_what_is_here_already_is_not_asked_about(
    fake: FakeRegistry, registry: Registry, store: ModelStore, solar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tiny.pull(registry, solar)
    monkeypatch.setattr(pull, "_WORTH_A_LOOK_BYTES", 1)
    sent = fake.body_bytes
    await tiny.pull(registry, solar)
    assert fake.body_bytes == sent


async def test_weights_that_are_no_gguf_are_fetched_all_the_same(
    registry: Registry, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_WORTH_A_LOOK_BYTES", 1)
    assert (await tiny.pull(registry, reference))[-1].status == "success"
