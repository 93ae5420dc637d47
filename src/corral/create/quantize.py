"""Quantizing a model: F16, BF16 or F32 weights to any file type of mixture.py, tensor by tensor, in bounded memory.

Called by `finish.py` on the blocking executor. The arithmetic is libgguf's (ggml's own routines); pieces of a tensor
are quantized on a small thread pool while earlier ones are written.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from corral.create.mixture import FILE_TYPE_NUMBERS, FLOAT_TYPES, ModelShape, choose_types, in_layer_order
from corral.create.rewrite import Sink, SourceTensor, copy_tensor, rewrite, rewritten_bytes, tensors_of
from corral.errors import QuantizationError
from corral.gguf.decoding import decode
from corral.gguf.encoding import tensor_bytes
from corral.gguf.header import GGUFHeader

_PIECE_ELEMENTS = 4 * 2**20  # 16 MiB of float32
_THREADS = min(8, os.cpu_count() or 1)
_QUANTIZATION_VERSION = 2
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


def source_type(parts: Sequence[GGUFHeader]) -> str:
    """The file type to quantize from: what the header says, or the type of most bytes where all tensors are floats.

    A file that names no type, or type 0, reads as `unknown` elsewhere; real F32 files are such.
    """
    header = parts[0]
    if header.file_type != "unknown":
        return header.file_type
    sizes: Counter[str] = Counter()
    for tensor in tensors_of(parts):
        sizes[tensor.info.type_name] += tensor.info.size_bytes
    return sizes.most_common(1)[0][0] if sizes and sizes.keys() <= FLOAT_TYPES else "unknown"


def split_keys(header: GGUFHeader) -> tuple[str, ...]:
    """The metadata keys by which a shard says which one it is, in both spellings."""
    return (*_SPLIT_KEYS, *(f"{header.architecture}.{key}" for key in _SPLIT_KEYS))


def quantized_bytes(parts: Sequence[GGUFHeader], file_type: str) -> int:
    """How large the quantized file will be, to within its metadata."""
    tensors = tensors_of(parts)
    types = choose_types(ModelShape.of(parts[0]), [tensor.info for tensor in tensors], file_type)
    return rewritten_bytes(parts, [(tensor, types[tensor.info.name]) for tensor in tensors])


def quantize(sink: Sink, parts: Sequence[GGUFHeader], file_type: str) -> Iterator[int]:
    """Write the model in `parts` (one file, or all shards) to `sink` as `file_type`; yields source bytes done so far.

    Raises QuantizationError for weights that are not finite or of a type that cannot be read.
    """
    base = parts[0]
    tensors = {tensor.info.name: tensor for tensor in tensors_of(parts)}
    infos = [tensor.info for tensor in tensors.values()]
    types = choose_types(ModelShape.of(base), infos, file_type)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="corral-quantize") as pool:
        yield from rewrite(
            sink,
            base,
            [(tensors[info.name], types[info.name]) for info in in_layer_order(infos)],
            put={
                "general.quantization_version": _QUANTIZATION_VERSION,
                "general.file_type": FILE_TYPE_NUMBERS[file_type],
            },
            drop=split_keys(base),
            read=lambda tensor, type_name: _converted(pool, tensor, type_name),
        )


def _converted(pool: ThreadPoolExecutor, tensor: SourceTensor, type_name: str) -> Iterator[bytes]:
    if tensor.info.type_name == type_name:
        yield from copy_tensor(tensor, type_name)
        return
    running: deque[Future[bytes]] = deque()
    try:
        for rows in _rows(tensor):
            running.append(pool.submit(_encode, tensor, rows, type_name))
            if len(running) > _THREADS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def _rows(tensor: SourceTensor) -> Iterator[bytes]:
    """The raw bytes of whole rows, a bounded number of them at a time."""
    info = tensor.info
    row_bytes = tensor_bytes(info.shape[:1], info.type_name)
    rows_a_piece = max(1, _PIECE_ELEMENTS // info.shape[0])
    with tensor.path.open("rb") as file:
        file.seek(info.offset)
        left = info.size_bytes
        while left:
            data = file.read(min(left, rows_a_piece * row_bytes))
            if not data or len(data) % row_bytes:
                raise OSError(f"tensor {info.name} is cut short in a file that was complete before")
            left -= len(data)
            yield data


def _encode(tensor: SourceTensor, data: bytes, type_name: str) -> bytes:
    values = _as_float32(tensor, data)
    if not np.isfinite(values).all():
        raise QuantizationError(f"tensor {tensor.info.name} has values that are not finite")
    import gguf  # with libgguf 8 MB, which a server that never quantizes does without
    import libgguf

    encoded: npt.NDArray[Any] = libgguf.quantize_rows(values, gguf.GGMLQuantizationType[type_name])
    return encoded.tobytes()


def _as_float32(tensor: SourceTensor, data: bytes) -> npt.NDArray[np.float32]:
    try:
        return decode(data, tensor.info.type_name, tensor.info.shape[0])
    except ValueError as error:
        name, kind = tensor.info.name, tensor.info.type_name
        raise QuantizationError(f"tensor {name} has type {kind}, which cannot be requantized") from error
