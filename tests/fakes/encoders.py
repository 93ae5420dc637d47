"""Files in Ollama's monolithic layouts with the encoder of a family in them, tiny; and the projector made of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tests.fakes.ggufs import add_value, finish
from tests.fakes.layouts import pairs

from corral.gguf import GGUFHeader, read_header
from corral.translate import write
from corral.translate.projectors import PROJECTORS
from corral.translate.view import View

WIDTH, HEADS, BLOCKS, FEED, TEXT = 8, 2, 2, 12, 16
_CLIP_KEYS = ("block_count", "embedding_length", "head_count", "image_size", "patch_size")
_SAM_BLOCK = {
    "qkv": "attn.qkv",
    "out": "attn.proj",
    "up": "mlp.lin1",
    "down": "mlp.lin2",
    "before": "norm1",
    "after": "norm2",
}
_CLIP_BLOCK = {
    "qkv": "self_attn.qkv_proj",
    "out": "self_attn.out_proj",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "before": "layer_norm1",
    "after": "layer_norm2",
}
Arrays = dict[str, np.ndarray[Any, Any]]
Shapes = Mapping[str, Sequence[int]]  # in numpy's order


def encoder_file(
    path: Path, architecture: str, keys: Mapping[str, Any], shapes: Shapes, types: Mapping[str, str] | None = None
) -> GGUFHeader:
    """A file with these keys (below the architecture) and tensors of random values, float32 where `types` is silent."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        add_value(
            writer, key if "." in key and key.split(".")[0] in {"tokenizer", "clip"} else f"{architecture}.{key}", value
        )
    random = np.random.default_rng(7)
    for name, shape in shapes.items():
        kind = gguf.GGMLQuantizationType[(types or {}).get(name, "F32")]
        array = random.normal(size=tuple(shape)).astype(np.float32)
        raw = kind is not gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(array, kind) if raw else array, raw_dtype=kind if raw else None)
    finish(writer)
    return read_header(path)


def projector_of(header: GGUFHeader) -> tuple[GGUFHeader, Arrays]:
    """The projector's file that is made of this one: its header and its tensors, decoded, in numpy's order."""
    view = View(header, empty=True)
    PROJECTORS[header.architecture].plan(view)
    plan = view.finish()
    path = header.path.with_suffix(".mmproj")
    with path.open("wb") as file:
        write(header.path, plan, file)
    assert path.stat().st_size == plan.size_bytes
    return read_header(path), arrays_of(path)


def arrays_of(path: Path) -> Arrays:
    """All tensors of a file, decoded, in numpy's order."""
    return {
        tensor.name: np.array(
            gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape.tolist()[::-1])
        )
        for tensor in gguf.GGUFReader(path).tensors
    }


def deepseek_ocr(path: Path) -> Path:
    """A whole deepseek-ocr in Ollama's layout that runs: text model, SAM and CLIP, tiny but for the picture's size."""
    pair = pairs()["deepseekocr"]
    text, sam, clip = pair.keys["deepseek2-ocr.embedding_length"], 32, 32
    layers = {"s": 3, "v": BLOCKS}  # SAM's third is the first that attends to the whole picture
    encoder = {"qkv": (3 * sam, sam), "out": (sam, sam), "up": (FEED, sam), "down": (sam, FEED)}
    shapes: dict[str, Sequence[int]] = {}
    for prefix, names in (("s", _SAM_BLOCK), ("v", _CLIP_BLOCK)):
        for block in range(layers[prefix]):
            for part, name in names.items():
                shapes[f"{prefix}.blk.{block}.{name}.weight"] = encoder.get(part, (sam,))
                shapes[f"{prefix}.blk.{block}.{name}.bias"] = encoder.get(part, (sam,))[:1]
    for block, distances in enumerate((27, 27, 127)):
        shapes |= {f"s.blk.{block}.attn.rel_pos_{side}": (distances, sam) for side in "hw"}
    shapes |= {"s.patch_embd.weight": (sam, 3, 16, 16), "s.patch_embd.bias": (sam,), "s.position_embd": (64, 64, sam)}
    shapes |= {"s.neck.0.weight": (sam, sam, 1, 1), "s.neck.2.weight": (sam, sam, 3, 3)}
    shapes |= {f"s.neck.{norm}.{leaf}": (sam,) for norm in (1, 3) for leaf in ("weight", "bias")}
    shapes |= {"s.net_2.weight": (sam, sam, 3, 3), "s.net_3.weight": (clip, sam, 3, 3)}
    shapes |= {"v.class_embd": (clip,), "v.patch_embd.weight": (clip, 3, 14, 14), "v.position_embd.weight": (257, clip)}
    shapes |= {f"v.pre_layrnorm.{leaf}": (clip,) for leaf in ("weight", "bias")}
    shapes |= {"mm.layers.weight": (text, clip + sam), "mm.layers.bias": (text,)}
    shapes |= {"mm.image_newline": (text,), "mm.view_seperator": (text,)}
    keys = {f"vision.{key}": value for key, value in zip(_CLIP_KEYS, (BLOCKS, clip, HEADS, 224, 14), strict=True)}
    keys |= {"sam.block_count": layers["s"], "sam.embedding_length": sam, "sam.head_count": 1}
    random = np.random.default_rng(11)
    arrays = {name: random.normal(0.0, 0.2, tuple(shape)).astype(np.float32) for name, shape in shapes.items()}
    seeing = {f"deepseek2-ocr.{key}": value for key, value in keys.items()}
    return replace(pair, keys=pair.keys | seeing, extra=arrays).write_ollama(path)


def vision_keys(**more: Any) -> dict[str, Any]:
    """What all families say of their eyes."""
    return {
        "embedding_length": TEXT,
        "vision.block_count": BLOCKS,
        "vision.embedding_length": WIDTH,
        "vision.feed_forward_length": FEED,
        "vision.attention.head_count": HEADS,
        "vision.attention.layer_norm_epsilon": 1e-6,
        "vision.patch_size": 4,
        "vision.image_size": 16,
        **more,
    }


def in_blocks(shapes: Shapes, prefix: str = "v") -> dict[str, Sequence[int]]:
    """These tensors in every block."""
    return {f"{prefix}.blk.{block}.{name}": shape for block in range(BLOCKS) for name, shape in shapes.items()}
