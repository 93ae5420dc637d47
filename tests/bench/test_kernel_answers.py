"""Kernels made for this processor answer as the engine's own do, also for models whose products have unusual shapes:
several sequences at once in recurrent layers, several matrices in one tensor. They take a minute to compile.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.bench.contenders import build_kernels, needs_compiler
from tests.e2e.conftest import ServerProcess, start_server
from tests.fakes.layouts import pairs
from tests.fakes.library import GOLDEN, KitModel, translated
from tests.fakes.made import made

from corral.kernels.proof import Step, compare

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(600),
    needs_compiler,
]
KERNELS = {"own": "off", "made": "auto"}
PROMPTS = ["one two three four five", "a red fox", "0123456789" * 12]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServerProcess]]:
    """With the engine's own kernels, and with those that are made here."""
    folder = tmp_path_factory.mktemp("answers")
    build_kernels(folder / "made" / "home")
    started = {name: start_server(folder / name, env={"CORRAL_KERNELS": kernels}) for name, kernels in KERNELS.items()}
    yield started
    for server in started.values():
        server.stop()


def steps(server: ServerProcess, model: str, prompt: str) -> list[Step]:
    """A greedy answer: token, its log probability, the runner-up's."""
    body = {"model": model, "prompt": prompt, "raw": True, "stream": False, "logprobs": True, "top_logprobs": 2}
    answer = server.post("/api/generate", {**body, "options": {"temperature": 0, "num_predict": 16}})
    found: list[Step] = []
    for entry in answer["logprobs"]:
        best, second = sorted((top["logprob"] for top in entry["top_logprobs"]), reverse=True)
        found.append((int.from_bytes(bytes(entry["bytes"])), best, second))
    return found


def answers(server: ServerProcess, family: str, path: Path) -> list[list[Step]]:
    """Of all prompts, asked at once."""
    with made(server, f"{family}-q8", {"m.gguf": path}, quantize="q8_0") as model, ThreadPoolExecutor() as pool:
        return list(pool.map(lambda prompt: steps(server, model, prompt), PROMPTS))


@pytest.mark.parametrize("family", ["lfm2", "nemotron_h_moe"])
def test_several_sequences_at_once(servers: dict[str, ServerProcess], family: str, tmp_path: Path) -> None:
    path = pairs()[family].write_native(tmp_path / "m.gguf")
    own, new = (answers(servers[name], family, path) for name in ("own", "made"))
    assert [compare(wanted, found) for wanted, found in zip(own, new, strict=True)] == [""] * len(PROMPTS)


def test_several_matrices_in_one_tensor(servers: dict[str, ServerProcess], tmp_path: Path) -> None:
    """Its random weights blow up what differs by rounding: that it answers is what is asked."""
    path = translated(KitModel(GOLDEN, "glm-4.7-flash").weights, tmp_path / "m.gguf")
    assert all(answers(servers["made"], "glm", path))
