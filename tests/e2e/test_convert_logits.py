"""Converted checkpoints compute what `transformers` computes: logits of tiny models of every family, real MiniLM.

The references were computed once (tests/golden/make_convert_reference.py); the weights are made again from seeds.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.fakes.checkpoints import write_adapter, write_checkpoint

from corral.convert import convert_adapter, convert_directory
from corral.gguf import GGUFHeader, read_header
from corral.runner.client import RunnerClient
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, RunnerSpec

pytestmark = pytest.mark.e2e

GOLDEN = Path(__file__).parents[1] / "golden"
REFERENCE: dict[str, Any] = json.loads((GOLDEN / "convert.json").read_text())
NOT_DECODERS = {"bert", "nomic-bert", "nomic-bert-moe", "xlm-roberta", "lora"}
DECODERS = [name for name in REFERENCE if name not in NOT_DECODERS]
LARGEST_DIFFERENCE = 0.02  # of natural logs; 16-bit KV cache and weights allow for a third of it
LARGER = {"gemma3n": 0.1}  # it drops activations below a threshold, at which a rounding decides
Vector = npt.NDArray[np.float64]


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """tmp_path is too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="ct-") as folder:
        yield Path(folder)


@asynccontextmanager
async def loaded(folder: Path, spec: RunnerSpec) -> AsyncIterator[RunnerClient]:
    handle = RunnerHandle(spec, LaunchOptions(folder / "r", environ=runner_environment()))
    try:
        await handle.start()
        yield handle.client
    finally:
        await handle.stop()


async def logprobs(client: RunnerClient, prompt: list[int], vocabulary: int) -> Vector:
    # What is drawn does not matter, but half a UTF-8 character would come without its probabilities: draw a letter.
    letter = [[65, 1000.0]]
    body = {"prompt": prompt, "n_predict": 1, "n_probs": vocabulary, "temperature": 0, "logit_bias": letter}
    events = [event async for event in client.completion(body)]
    first = next(event for event in events if event.get("completion_probabilities"))
    found = {top["id"]: top["logprob"] for top in first["completion_probabilities"][0]["top_logprobs"]}
    return np.array([found[token] for token in range(vocabulary)])


def assert_close(got: Vector, want: Vector, largest: float = LARGEST_DIFFERENCE) -> None:
    assert int(got.argmax()) == int(want.argmax())
    assert float(np.abs(got - want).max()) < largest


@pytest.mark.parametrize("family", DECODERS)
async def test_a_converted_decoder_has_the_references_logits(family: str, short_dir: Path) -> None:
    reference = REFERENCE[family]
    files = write_checkpoint(short_dir / "m", reference["config"], reference["shapes"])
    model = convert_directory(files, short_dir / "m.gguf").path
    want = np.array(reference["logprobs"])
    async with loaded(short_dir, RunnerSpec(model, context_window=256, n_batch=64)) as client:
        got = await logprobs(client, reference["prompt"], len(want))
    assert_close(got, want, LARGER.get(family, LARGEST_DIFFERENCE))


@pytest.mark.parametrize("family", ["bert", "nomic-bert", "nomic-bert-moe"])
async def test_a_converted_encoder_has_the_references_embedding(family: str, short_dir: Path) -> None:
    reference = REFERENCE[family]
    files = write_checkpoint(short_dir / "m", reference["config"], reference["shapes"])
    model = convert_directory(files, short_dir / "m.gguf").path
    async with loaded(short_dir, RunnerSpec(model, context_window=256, n_batch=256, embedding=True)) as client:
        ((vector, tokens),) = await client.embeddings([reference["prompt"]], normalize=2)
    assert tokens == len(reference["prompt"])
    assert float(np.dot(vector, reference["embedding"])) > 0.9999


async def test_a_unigram_vocabulary_cuts_texts_as_the_reference_and_its_model_embeds_them(short_dir: Path) -> None:
    reference = REFERENCE["xlm-roberta"]
    files = write_checkpoint(short_dir / "m", reference["config"], reference["shapes"], reference["tokenizer"])
    model = convert_directory(files, short_dir / "m.gguf").path
    async with loaded(short_dir, RunnerSpec(model, context_window=128, n_batch=128, embedding=True)) as client:
        for entry in reference["texts"]:
            assert await client.tokenize(entry["text"], add_special=True) == entry["ids"]
        ((vector, _),) = await client.embeddings([reference["texts"][0]["text"]], normalize=2)
    assert float(np.dot(vector, reference["embedding"])) > 0.9999


async def test_a_converted_adapter_changes_the_logits_as_merging_it_would(short_dir: Path) -> None:
    reference = REFERENCE["lora"]
    files = write_checkpoint(short_dir / "m", reference["config"], reference["base_shapes"])
    base = convert_directory(files, short_dir / "m.gguf").path
    parts = write_adapter(short_dir / "a", reference["adapter"], reference["shapes"])
    adapter = convert_adapter(parts, read_header(base), short_dir / "a.gguf")
    want = np.array(reference["logprobs"])
    assert float(np.abs(want - np.array(REFERENCE["llama"]["logprobs"])).max()) > 10 * LARGEST_DIFFERENCE
    spec = RunnerSpec(base, adapter_paths=(adapter,), context_window=256, n_batch=64)
    async with loaded(short_dir, spec) as client:
        assert_close(await logprobs(client, reference["prompt"], len(want)), want)


async def test_minilm_embeds_as_sentence_transformers_does(models_dir: Path, short_dir: Path) -> None:
    reference = json.loads((GOLDEN / "minilm.json").read_text())
    folder = models_dir / "minilm"
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    model = convert_directory(files, short_dir / "m.gguf").path
    async with loaded(short_dir, RunnerSpec(model, context_window=512, n_batch=512, embedding=True)) as client:
        found = await client.embeddings(reference["sentences"], normalize=2)
    for sentence, (vector, _), want in zip(reference["sentences"], found, reference["embeddings"], strict=True):
        assert float(np.dot(vector, want)) > 0.999, sentence


async def test_a_llama_decoder_survives_export_and_import(models_dir: Path, short_dir: Path) -> None:
    """SmolLM2: dequantized to a safetensors checkpoint, imported again, greedy text equal to the original's."""
    checkpoint = export_llama(models_dir / "smollm2.gguf", short_dir / "m")
    model = convert_directory(checkpoint, short_dir / "m.gguf").path
    prompt = "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n"
    texts = []
    for path in (models_dir / "smollm2.gguf", model):
        async with loaded(short_dir, RunnerSpec(path, context_window=512, n_batch=64)) as client:
            body = {"prompt": prompt, "n_predict": 24, "temperature": 0}
            texts.append("".join([event.get("content", "") async for event in client.completion(body)]))
    assert texts[0]
    assert texts[0] == texts[1]


def export_llama(source: Path, folder: Path) -> dict[str, Path]:
    """A GGUF llama as a Hugging Face checkpoint of 16-bit floats."""
    from safetensors.numpy import save_file

    header = read_header(source)
    folder.mkdir()
    tensors = exported_tensors(source, header)
    save_file(tensors, folder / "model.safetensors")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": header.get("embedding_length"),
        "intermediate_size": header.get("feed_forward_length"),
        "num_hidden_layers": header.get("block_count"),
        "num_attention_heads": header.get("attention.head_count"),
        "num_key_value_heads": header.get("attention.head_count_kv"),
        "max_position_embeddings": header.get("context_length"),
        "rms_norm_eps": header.get("attention.layer_norm_rms_epsilon"),
        "rope_theta": header.get("rope.freq_base"),
        "vocab_size": tensors["model.embed_tokens.weight"].shape[0],
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(exported_tokenizer(header)))
    special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    return {path.name: path for path in folder.iterdir()}


def exported_tensors(source: Path, header: GGUFHeader) -> dict[str, np.ndarray[Any, Any]]:
    """The weights under their names at Hugging Face; queries and keys in its order of rotary halves."""
    from gguf import GGUFReader, dequantize, get_tensor_name_map
    from gguf.constants import MODEL_ARCH

    heads = {"q_proj": header.get("attention.head_count"), "k_proj": header.get("attention.head_count_kv")}
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, header.get("block_count"))
    attention = [f"self_attn.{end}_proj" for end in "qkvo"]
    ends = [*attention, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm"]
    wanted = ["model.embed_tokens.weight", "model.norm.weight"]
    wanted += [f"model.layers.{block}.{end}.weight" for block in range(header.get("block_count")) for end in ends]
    stored = {tensor.name: tensor for tensor in GGUFReader(source).tensors}
    tensors = {}
    for name in wanted:
        tensor = stored[names.get_name(name, try_suffixes=(".weight",)) or name]
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        count = heads.get(name.split(".")[-2])
        if count:
            split = values.reshape(count, values.shape[0] // count // 2, 2, values.shape[1])
            values = np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))
        tensors[name] = values
    return tensors


def exported_tokenizer(header: GGUFHeader) -> dict[str, Any]:
    """tokenizer.json of a byte-level BPE vocabulary that takes digits one by one."""
    tokens = header.get("tokenizer.ggml.tokens").read()
    types = header.get("tokenizer.ggml.token_type").read()
    return {
        "added_tokens": [{"id": i, "content": text, "special": True} for i, text in enumerate(tokens) if types[i] == 3],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}],
        },
        "model": {
            "type": "BPE",
            "vocab": {text: i for i, text in enumerate(tokens)},
            "merges": header.get("tokenizer.ggml.merges").read(),
        },
    }
