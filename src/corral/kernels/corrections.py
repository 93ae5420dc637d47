"""What is changed in the pinned engine's sources before they are compiled. Used by build.py.

Threads wait for each other as barrier.h has it; attention goes to attention.h first, products of rows with weights on
AMX (Intel's tiles) to amx_multiply.h, rows of Q5_0 to dots.h, and activations are quantized as quantize.h has it. The
others are faults of the kernels for AMX, seen in llama.cpp of 2026-10:

| fault                                                              | what happened                               |
|--------------------------------------------------------------------|---------------------------------------------|
| gcc up to 12 reads 8 bytes of the tiles' shapes and drops the rest | an illegal instruction at the first prompt  |
| second sequences are looked for at bytes that are taken for floats | recurrent models: memory overwritten        |
| room is made for the first of several matrices in one tensor       | latent attention: an abort                  |
| a single tile of columns is added to what stood in memory          | wrong numbers                               |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.errors import KernelBuildFailed


@dataclass(frozen=True, slots=True)
class Correction:
    """A text, how often it stands in a file, and what it should be. file: below ggml's folder."""

    file: str
    wrong: str
    right: str
    times: int = 1


_TILES, _TILE_BUFFERS = "src/ggml-cpu/amx/mmq.cpp", "src/ggml-cpu/amx/amx.cpp"
_NO_TILES = "src0->ne[2] * src0->ne[3] != 1 || src0->ne[0] == TILE_K"
_PRODUCTS = "src/ggml-cpu/llamafile/sgemm.cpp"
_OPERATIONS, _ROWS = "src/ggml-cpu/ops.cpp", "src/ggml-cpu/arch/x86/quants.c"
CHANGES = (
    Correction(
        "src/ggml-cpu/ggml-cpu.c",
        "#pragma omp barrier\n",
        "CORRAL_BARRIER(&tp->n_barrier, &tp->n_barrier_passed, n_threads);\n",
    ),
    Correction(
        _OPERATIONS,
        "    const bool write_partials = (partials != nullptr);\n",
        "    if (corral::attend(params, dst, ir0, ir1, ic_start, ic_end, partials, partial_stride)) return;\n"
        "    const bool write_partials = (partials != nullptr);\n",
    ),
    Correction(
        _OPERATIONS,
        "    GGML_ASSERT(k->type == v->type);\n    const ggml_type kv_type = k->type;\n",
        "    if (corral::attend(params, dst, ir0, ir1, 0, nek1, nullptr, 0)) return;\n"
        "    GGML_ASSERT(k->type == v->type);\n    const ggml_type kv_type = k->type;\n",
    ),
    Correction(
        _OPERATIONS, "params, dst, q_head, q_head + 1, ic_start, ic_end,", "params, dst, 0, neq2, ic_start, ic_end,"
    ),
    Correction(
        _OPERATIONS,
        "for (int64_t q_head = 0; q_head < neq2; q_head++) {\n                ggml_compute",
        "{\n                ggml_compute",
    ),
    Correction(
        _ROWS, '#include "../../quants.h"\n', '#include "../../quants.h"\n#include "dots.h"\n#include "quantize.h"\n'
    ),
    Correction(
        _ROWS,
        "    const block_q5_0 * GGML_RESTRICT x = vx;\n    const block_q8_0 * GGML_RESTRICT y = vy;\n",
        "    const block_q5_0 * GGML_RESTRICT x = vx;\n    const block_q8_0 * GGML_RESTRICT y = vy;\n"
        "#if defined(__AVX512VNNI__)\n"
        "    if (nb % 2 == 0) {\n"
        "        *s = corral_dot_q5_0(x, y, nb);\n"
        "        return;\n"
        "    }\n"
        "#endif\n",
    ),
    Correction(_ROWS, "quantize_row_q8_K_ref(x, y, k);", "corral_quantize(x, (block_q8_K *) y, k);"),
    Correction(_TILES, '#include "ggml-quants.h"\n', '#include "ggml-quants.h"\n#include "quantize.h"\n'),
    Correction(_TILES, "quantize_row_q8_K_ref(x, (block_q8_K *)vy, k);", "corral_quantize(x, (block_q8_K *)vy, k);"),
    Correction(_TILES, "// NB: mixed dtype gemm", '#include "amx_multiply.h"\n// NB: mixed dtype gemm'),
    Correction(
        _TILES,
        "    // handle 4 tiles at a tile\n",
        "    if (corral::multiply(params, dst)) return;\n    // handle 4 tiles at a tile\n",
    ),
    Correction(
        _PRODUCTS,
        "        tinyBLAS_Q0_AVX<block_q5_0, block_q8_0, float> tb{",
        "#if defined(__AMX_INT8__) && defined(__AVX512VNNI__)\n"
        "        bool corral_multiply_q5_0(const ggml_compute_params *, int64_t, int64_t, int64_t, const void *,\n"
        "                                  int64_t, const void *, int64_t, float *, int64_t);\n"
        "        if (corral_multiply_q5_0(params, m, n, k, A, lda, B, ldb, (float *) C, ldc)) return true;\n"
        "#endif\n"
        "        tinyBLAS_Q0_AVX<block_q5_0, block_q8_0, float> tb{",
    ),
)
FAULTS = (
    Correction(
        _TILES,
        "_tile_loadconfig(&tc);",
        '__asm__ volatile("" : : "r"(&tc) : "memory"); _tile_loadconfig(&tc);',
    ),
    Correction(
        _TILES,
        "return i3 * t->nb[3] + i2 * t->nb[2];",
        "return (t->ne[3] == 1 ? 0 : i3 * t->nb[3]) + (t->ne[2] == 1 ? 0 : i2 * t->nb[2]);",
    ),
    Correction(
        _TILES,
        "(const float *)src1->data + src1_offset",
        "(const float *)((const char *)src1->data + src1_offset)",
    ),
    Correction(
        _TILES,
        "(const type *)src0->data + src0_offset",
        "(const type *)((const char *)src0->data + src0_offset)",
    ),
    Correction(_TILES, "(float *)dst->data + dst_offset", "(float *)((char *)dst->data + dst_offset)"),
    Correction(_TILES, "(float *) dst->data + dst_offset", "(float *)((char *)dst->data + dst_offset)", times=2),
    Correction(
        _TILE_BUFFERS,
        "if (op->ne[0] % (TILE_N * 2)) {",
        f"if (op->ne[0] % (TILE_N * 2) || {_NO_TILES}) {{",
    ),
)


def correct(ggml: Path, corrections: Sequence[Correction] = (*CHANGES, *FAULTS)) -> None:
    """Put them right in ggml's folder. Raises KernelBuildFailed where the sources are not those that are known."""
    for correction in corrections:
        path = ggml / correction.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text.count(correction.wrong) != correction.times:
            raise KernelBuildFailed(f"{correction.file} is not the one that is known")
        path.write_text(text.replace(correction.wrong, correction.right), encoding="utf-8")
