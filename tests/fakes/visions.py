"""A vision model small enough for tests: a LLaVA projector (CLIP ViT and two-layer MLP) for `tiny_llama`, and images.

Real architectures with random weights: the answers are nonsense, but they depend on every pixel.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from PIL import Image
from tests.fakes.ggufs import finish

IMAGE_SIDE = 28  # pixels; every image is scaled to this square
PATCH_SIDE = 14
IMAGE_TOKENS = (IMAGE_SIDE // PATCH_SIDE) ** 2
_WIDTH = 32  # of the ViT
_LAYERS = 2  # LLaVA leaves the last one out


def tiny_projector(path: Path, *, width: int = 64, seed: int = 1, kind: str = "mlp") -> Path:
    """Write an mmproj GGUF for a language model of embedding size `width`; about 100 kB. Returns `path`.

    `kind`: what it says of itself; "" as old files, which say nothing.
    """
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    if kind:
        writer.add_string("clip.projector_type", kind)
    writer.add_bool("clip.use_gelu", True)
    for key, value in {
        "image_size": IMAGE_SIDE,
        "patch_size": PATCH_SIDE,
        "embedding_length": _WIDTH,
        "feed_forward_length": 2 * _WIDTH,
        "block_count": _LAYERS,
        "projection_dim": width,
        "attention.head_count": 2,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.25, 0.25, 0.25])
    writer.add_file_type(0)
    for name, weights in _weights(seed, width).items():
        writer.add_tensor(name, weights)
    finish(writer)
    return path


def picture(
    kind: str = "PNG", *, color: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (40, 30)
) -> bytes:
    """An image file of one colour with a darker half; `kind` as Pillow names it."""
    image = Image.new("RGB", size, color)
    image.paste((color[0] // 3, color[1] // 3, color[2] // 3), (0, 0, max(1, size[0] // 2), size[1]))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few kB whose header promises 3.6 gigapixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _weights(seed: int, width: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)

    def matrix(*shape: int) -> np.ndarray[Any, Any]:
        return random.normal(0.0, 0.2, shape).astype(np.float32)

    def norm(prefix: str) -> dict[str, np.ndarray[Any, Any]]:
        return {
            f"{prefix}.weight": np.ones(_WIDTH, dtype=np.float32),
            f"{prefix}.bias": np.zeros(_WIDTH, dtype=np.float32),
        }

    weights = {
        "v.patch_embd.weight": matrix(_WIDTH, 3, PATCH_SIDE, PATCH_SIDE),
        "v.class_embd": matrix(_WIDTH),
        "v.position_embd.weight": matrix(IMAGE_TOKENS + 1, _WIDTH),
        **norm("v.pre_ln"),
    }
    for layer in range(_LAYERS):
        prefix = f"v.blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            weights[f"{prefix}.{name}.weight"] = matrix(_WIDTH, _WIDTH)
            weights[f"{prefix}.{name}.bias"] = matrix(_WIDTH)
        weights |= norm(f"{prefix}.ln1") | norm(f"{prefix}.ln2")
        weights[f"{prefix}.ffn_up.weight"] = matrix(2 * _WIDTH, _WIDTH)
        weights[f"{prefix}.ffn_up.bias"] = matrix(2 * _WIDTH)
        weights[f"{prefix}.ffn_down.weight"] = matrix(_WIDTH, 2 * _WIDTH)
        weights[f"{prefix}.ffn_down.bias"] = matrix(_WIDTH)
    weights["mm.0.weight"] = matrix(width, _WIDTH)
    weights["mm.0.bias"] = matrix(width)
    weights["mm.2.weight"] = matrix(width, width)
    weights["mm.2.bias"] = matrix(width)
    return weights
