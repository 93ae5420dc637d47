"""Families that the library kit lacks: a file in Ollama's layout becomes the engine's own, byte for byte, and runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.fakes.layouts import pairs
from tests.fakes.library import translated

from corral.gguf import GGUFArray, read_header
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, RunnerSpec

pytestmark = pytest.mark.e2e

PAIRS = pairs()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """tmp_path is too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="te-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("family", sorted(PAIRS))
def test_the_translated_file_is_what_llama_cpp_would_have(family: str, tmp_path: Path) -> None:
    native = PAIRS[family].write_native(tmp_path / "native.gguf")
    found = translated(PAIRS[family].write_ollama(tmp_path / "ollama.gguf"), tmp_path / "new.gguf")
    assert found.name == "new.gguf"
    wanted, got = ({one.name: one.data for one in gguf.GGUFReader(path).tensors} for path in (native, found))
    assert wanted.keys() == got.keys()
    assert all(np.array_equal(wanted[name], got[name]) for name in wanted)
    keys, theirs = (
        {
            key: value.read() if isinstance(value, GGUFArray) else value
            for key, value in read_header(path).metadata.items()
        }
        for path in (native, found)
    )
    assert keys == theirs


@pytest.mark.parametrize("family", sorted(PAIRS))
async def test_the_engine_runs_it(family: str, short_dir: Path) -> None:
    pair = PAIRS[family]
    model = translated(pair.write_ollama(short_dir / "ollama.gguf"), short_dir / "new.gguf")
    spec = RunnerSpec(model, context_window=256, n_threads=1, embedding=pair.is_embedding)
    handle = RunnerHandle(spec, LaunchOptions(short_dir / "r", environ=runner_environment()))
    try:
        await handle.start()
        if pair.is_embedding:
            assert await handle.client.tokenize("abc", add_special=True) == [0, 4, 5, 6, 7, 2]
            [(vector, _)] = await handle.client.embeddings(["abc"])
            assert np.isfinite(vector).all()
            assert np.any(vector)
        else:
            body = {"prompt": "hello the hello", "n_predict": 8, "temperature": 0, "n_probs": 3, "ignore_eos": True}
            events = [event async for event in handle.client.completion(body)]
            tops = [step["logprob"] for event in events for step in event.get("completion_probabilities") or []]
            assert tops  # not of each token: half a character comes without
            assert np.isfinite(tops).all()
    finally:
        await handle.stop()
