"""Checkpoints through /api/create on a real server: eyes become a projector layer, FP8 becomes Q8_0, damage a 400."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.e2e.conftest import ServerProcess
from tests.fakes.checkpoints import weights, write_checkpoint, write_float8
from tests.fakes.embedders import PAD, last_state, write_embedder
from tests.fakes.hubfamilies import hub_checkpoint
from tests.fakes.library import GOLDEN as KIT
from tests.fakes.library import KitModel
from tests.fakes.made import made, refused, upload

pytestmark = pytest.mark.e2e

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "convert.json").read_text())
SEES = KitModel(KIT, "ministral-3")
OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 8}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint with eyes."""
    return hub_checkpoint(SEES.weights, tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="module")
def seeing(server: ServerProcess, checkpoint: dict[str, Path]) -> Iterator[ServerProcess]:
    with made(server, "seeing", checkpoint):
        yield server


def test_the_eyes_of_a_checkpoint_become_a_projector_layer(seeing: ServerProcess) -> None:
    manifest = json.loads((seeing.models / "manifests/registry.ollama.ai/library/seeing/latest").read_text())
    kinds = [layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]]
    assert sorted(kinds)[:2] == ["model", "projector"]
    shown = seeing.post("/api/show", {"model": "seeing"})
    assert "vision" in shown["capabilities"]
    assert shown["projector_info"]["clip.projector_type"] == "pixtral"


def test_an_imported_model_sees_what_the_library_model_sees(seeing: ServerProcess) -> None:
    firsts = []
    for name, want in [(entry["image"], entry) for entry in SEES.reference["images"]]:
        message = {"role": "user", "content": "What is in the picture?", "images": [SEES.medium(name)]}
        body = {"model": "seeing", "messages": [message], "logprobs": True, "top_logprobs": 5, "options": OPTIONS}
        reply = seeing.post("/api/chat", body)
        assert reply["prompt_eval_count"] > len(want["prompt"]) // 10
        firsts.append(reply["logprobs"][0]["top_logprobs"])
    assert firsts[0] != firsts[1]


def test_a_decoder_that_embeds_gives_its_last_tokens_state(server: ServerProcess, tmp_path: Path) -> None:
    reference = REFERENCE["qwen3"]
    with made(server, "embedder", write_embedder(tmp_path / "m", reference)) as name:
        assert server.post("/api/show", {"model": name})["capabilities"] == ["embedding"]
        reply = server.post("/api/embed", {"model": name, "input": ["xyz", "w xyz"]})
    for text, vector in zip((b"xyz", b"w xyz"), reply["embeddings"], strict=True):  # a token a byte
        want = last_state(reference, [*text, PAD])
        assert float(np.dot(vector, want / np.linalg.norm(want))) > 0.9999
    assert reply["prompt_eval_count"] == 4 + 6


def test_a_checkpoint_of_8_bit_floats_becomes_q8_0_and_answers_as_its_values_do(
    server: ServerProcess, tmp_path: Path
) -> None:
    config, shapes = REFERENCE["llama"]["config"], REFERENCE["llama"]["shapes"]
    eight = write_checkpoint(tmp_path / "8", config, shapes)
    tensors = {name: weights(name, shape) for name, shape in shapes.items()}
    held = write_float8(eight["model.safetensors"], tensors, 32)
    quantization = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    eight["config.json"].write_text(json.dumps({**config, "quantization_config": quantization}))
    plain = write_checkpoint(tmp_path / "16", config, shapes)
    save_file(held, plain["model.safetensors"])
    answers = []
    for name, files, fields in (("eight", eight, {}), ("plain", plain, {"quantize": "q8_0"})):
        with made(server, name, files, **fields):
            assert server.post("/api/show", {"model": name})["details"]["quantization_level"] == "Q8_0"
            body = {"model": name, "prompt": "the sky", "raw": True, "logprobs": True, "top_logprobs": 20}
            reply = server.post("/api/generate", {**body, "options": {**OPTIONS, "num_predict": 1}})
            tops = [top for top in reply["logprobs"][0]["top_logprobs"] if top["token"].isalnum()]  # the rest is bytes
            answers.append({top["token"]: top["logprob"] for top in tops})
    common = answers[0].keys() & answers[1].keys()
    assert len(common) > 2
    assert [answers[0][token] for token in common] == pytest.approx([answers[1][token] for token in common], abs=0.05)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ({"config.json": b"{"}, "config.json: not valid JSON"),
        ({"model.safetensors": b"\x10\0\0\0\0\0\0\0{}"}, "model.safetensors: not a safetensors file"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "model-00002-of-00002.safetensors"}}'},
            "model-00002-of-00002.safetensors is missing",
        ),
    ],
)
def test_a_damaged_checkpoint_is_a_400_that_names_the_file(
    server: ServerProcess, checkpoint: dict[str, Path], damage: dict[str, bytes], why: str, tmp_path: Path
) -> None:
    files = dict(checkpoint)
    for name, data in damage.items():
        files[name] = tmp_path / name
        files[name].write_bytes(data)
    sent = {name: upload(server, path) for name, path in files.items()}
    status, text = refused(server, "/api/create", {"model": "damaged", "files": sent})
    assert (status, why in text) == (400, True), text


def test_a_checkpoint_whose_quantization_is_unknown_is_a_400_that_names_it(
    server: ServerProcess, tmp_path: Path
) -> None:
    config = {**REFERENCE["llama"]["config"], "quantization_config": {"quant_method": "gptq", "bits": 4}}
    files = write_checkpoint(tmp_path, config, REFERENCE["llama"]["shapes"])
    sent = {name: upload(server, path) for name, path in files.items()}
    status, text = refused(server, "/api/create", {"model": "gptq", "files": sent})
    assert status == 400
    assert "quantization 'gptq' cannot be imported" in text


def test_a_pytorch_file_is_a_400_that_says_what_to_do(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + base64.b64decode("AAAA"))
    sent = {"pytorch_model.bin": upload(server, tmp_path / "pytorch_model.bin")}
    status, text = refused(server, "/api/create", {"model": "pickled", "files": sent})
    assert status == 400
    assert "save the model as safetensors" in text
