"""Translating a monolithic file of 4 GB against `cp` of the same file, as a ratio within one run, and its memory.

The file is gemma4's of experts: most of its bytes are two stacks of matrices that the engine wants as one, so nearly
nothing can be copied in one go. Both write to the same disk, one after the other; the page cache holds the source.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from corral.gguf import read_header
from corral.gguf.encoding import encode_preamble, encode_scalar, encode_tensors, encode_text, tensor_bytes
from corral.gguf.types import ValueType

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

FILE_BYTES = 4_000_000_000
MOST_MEMORY_BYTES = 300 * 2**20
LEAST_SPEED = 0.5  # of cp's
ROUNDS = 5
EMBEDDING, FEED_FORWARD, EXPERTS = 2816, 704, 128
PROGRAM = """
import sys
from pathlib import Path
from corral.gguf import read_header
from corral.translate import recognize, write
source, target = map(Path, sys.argv[1:])
plan = recognize(read_header(source)).text_plan()
with target.open("wb") as file:
    write(source, plan, file)
"""


def write_model(path: Path) -> None:
    """gemma4 with as many layers of experts as make 4 GB, in Q4_0, and a vision tower."""
    matrices = {"ffn_gate_exps": (EMBEDDING, FEED_FORWARD), "ffn_up_exps": (EMBEDDING, FEED_FORWARD)}
    matrices |= {"ffn_down_exps": (FEED_FORWARD, EMBEDDING)}
    a_layer = sum(tensor_bytes((*shape, EXPERTS), "Q4_0") for shape in matrices.values())
    tensors: list[tuple[str, Sequence[int], str]] = [
        (f"blk.{layer}.{name}.weight", (*shape, EXPERTS), "Q4_0")
        for layer in range(FILE_BYTES // a_layer + 1)
        for name, shape in matrices.items()
    ]
    tensors.append(("v.patch_embd.weight", (1024, 1024), "F16"))
    keys = {"general.architecture": "gemma4", "tokenizer.ggml.model": "llama"}
    pairs = [encode_text(key) + encode_scalar(ValueType.STRING, value) for key, value in keys.items()]
    head = encode_preamble(len(tensors), len(keys)) + b"".join(pairs) + encode_tensors(tensors, 32)
    noise = os.urandom(2**20)
    with path.open("wb") as file:
        file.write(head + bytes(-len(head) % 32))
        left = sum(tensor_bytes(shape, kind) for _, shape, kind in tensors)
        while left > 0:
            left -= file.write(noise[: min(left, len(noise))])


def timed(command: list[str], target: Path) -> float:
    target.unlink(missing_ok=True)
    os.sync()
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def test_a_file_of_4_gb_is_translated_at_half_the_speed_of_cp_in_300_mib(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 3 * FILE_BYTES:
        pytest.skip("not enough disk for three files of 4 GB")
    source, target = tmp_path / "source.gguf", tmp_path / "target.gguf"
    write_model(source)
    assert read_header(source).file_size >= FILE_BYTES
    took: dict[str, list[float]] = {"cp": [], "translate": []}
    for _ in range(ROUNDS):
        took["cp"].append(timed(["cp", str(source), str(target)], target))
        took["translate"].append(timed([sys.executable, "-c", PROGRAM, str(source), str(target)], target))
    memory_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    ratio = min(took["cp"]) / min(took["translate"])
    print(f"\n{took}, {ratio:.2f} of cp's speed, {memory_bytes / 2**20:.0f} MiB at most")
    assert memory_bytes <= MOST_MEMORY_BYTES
    assert ratio >= LEAST_SPEED
