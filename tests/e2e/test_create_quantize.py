"""Quantized models load in the engine and predict what their float originals predict."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from corral.core import TransferStatus
from corral.create.flow import Creator
from corral.create.request import CreateRequest
from corral.names import ModelName
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, RunnerSpec
from corral.store import ModelStore

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def float_model(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 with its weights widened to F16: something to quantize."""
    source = gguf.GGUFReader(models_dir / "smollm2.gguf")
    path = tmp_path_factory.mktemp("float") / "smollm2-f16.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in source.fields.items():
        if key.startswith("GGUF.") or key in {"general.architecture", "general.file_type"}:
            continue
        kind = field.types[0]
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, field.contents())
        else:
            writer.add_key_value(key, field.contents(), kind)
    writer.add_file_type(1)
    for tensor in source.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in reversed(tensor.shape)])
        writer.add_tensor(tensor.name, values.astype(np.float32 if values.ndim == 1 else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


async def no_pull(_reference: str) -> AsyncIterator[TransferStatus]:
    raise AssertionError("nothing is to be pulled here")
    yield


async def likely_next_tokens(model: Path, folder: Path) -> set[str]:
    """The ten most probable tokens after a few fixed words."""
    spec = RunnerSpec(model, context_window=256, n_batch=32, n_threads=1)
    runner = RunnerHandle(spec, LaunchOptions(folder, environ=runner_environment()))
    await runner.start()
    try:
        body = {"prompt": "Monday, Tuesday, Wednesday,", "n_predict": 1, "temperature": 0, "n_probs": 10}
        events = [event async for event in runner.client.completion(body)]
        first = next(event for event in events if event.get("completion_probabilities"))
        return {entry["token"] for entry in first["completion_probabilities"][0]["top_logprobs"]}
    finally:
        await runner.stop()


@pytest.mark.parametrize(("file_type", "agreement"), [("bf16", 9), ("q8_0", 8), ("q4_K_M", 6)])
async def test_a_quantized_model_runs_and_predicts_what_the_float_model_does(
    float_model: Path, tmp_path: Path, file_type: str, agreement: int
) -> None:
    store = ModelStore(tmp_path / "models")
    digest, _ = store.blobs.put(float_model.read_bytes())
    request = CreateRequest(name=ModelName.parse("small"), files={"m.gguf": str(digest)}, quantize=file_type)
    lines = [line async for line in Creator(store, no_pull).create(request)]
    assert lines[-1].status == "success"
    model = store.load(ModelName.parse("small"))
    assert model.quantization_level == file_type.upper()
    assert model.weights is not None
    wanted = await likely_next_tokens(float_model, tmp_path / "float")
    found = await likely_next_tokens(model.weights, tmp_path / "run")
    assert len(wanted) == 10
    assert len(wanted & found) >= agreement, (wanted, found)
