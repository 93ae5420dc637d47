"""What kernels for this processor and huge pages bring, and what the API takes of it. Nothing else may run beside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bench.contenders import (
    BEFORE,
    Speed,
    build_kernels,
    compare,
    from_the_runner,
    needs_compiler,
    serve,
    settled,
    through_the_api,
)
from tests.bench.shapes import llama_1b
from tests.e2e.conftest import ServerProcess

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(1800),
    needs_compiler,
]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with kernels for this processor."""
    home = tmp_path_factory.mktemp("built")
    build_kernels(home)
    return home


@pytest.fixture(scope="module", params=["1B shape, Q4_K_M", "Gemma 3 270M, Q4_K_M"])
def model(request: pytest.FixtureRequest) -> str:
    """What is measured."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def servers(
    model: str, tmp_path_factory: pytest.TempPathFactory, models_dir: Path, kernels: Path
) -> Iterator[dict[str, ServerProcess]]:
    """The same model with the engine as it comes, and with kernels and huge pages."""
    folder = tmp_path_factory.mktemp("kernels")
    file = models_dir / "gemma3.gguf" if model.startswith("Gemma") else llama_1b(folder / "1b.gguf")
    shutil.copytree(kernels, folder / "now" / "home")
    started: dict[str, ServerProcess] = {}
    try:
        started["before"] = serve(folder / "before", file, BEFORE)
        started["now"] = serve(folder / "now", file, {"CORRAL_KERNELS": "auto"})
        for server in started.values():
            settled(server, model)
        yield started
    finally:
        for server in started.values():
            server.stop()
        shutil.rmtree(folder)


def told(what: str, one: Speed, other: Speed) -> tuple[float, float]:
    reading, answering = one.against(other)
    print(f"\n{what}: reading {reading:.2f}, answering {answering:.2f}; tokens/s {one.medians}, {other.medians}")
    return reading, answering


def test_kernels_and_huge_pages_pay(servers: dict[str, ServerProcess], model: str) -> None:
    speeds = compare({name: through_the_api(server) for name, server in servers.items()}, model)
    reading, answering = told("kernels and huge pages / without", speeds["now"], speeds["before"])
    assert reading >= 1.35
    assert answering >= 1.10


def test_the_api_takes_two_percent(servers: dict[str, ServerProcess], model: str) -> None:
    server = servers["now"]
    speeds = compare({"api": through_the_api(server), "runner": from_the_runner(server)}, model, rounds=16)
    reading, answering = told("through the API / straight from the runner", speeds["api"], speeds["runner"])
    assert reading >= 0.96
    assert answering >= 0.98
