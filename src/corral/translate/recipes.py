"""`Recipe`: a tensor of the new file and how its bytes come from the source's tensors; one function a kind.

Called by families and projectors. Whatever a header says, a recipe fits: shapes and types are checked here and
UntranslatableModel names the tensor that does not do. Shapes are in GGUF's order, fastest dimension first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from corral.errors import UntranslatableModel
from corral.gguf.encoding import block_of, tensor_bytes
from corral.gguf.header import TensorInfo
from corral.translate.content import (
    Alternating,
    Computed,
    Constant,
    Content,
    Copied,
    Floats,
    Joined,
    Rearranged,
    Repacked,
    Span,
    Widened,
    row_bytes,
)

_MAX_GROUP_ROWS = 2**20  # rows that one permutation lists; heads have a few hundred


@dataclass(frozen=True, slots=True)
class Recipe:
    """One tensor of the file to be written."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    content: Content

    def __post_init__(self) -> None:
        wanted = tensor_bytes(self.shape, self.type_name)
        if self.content.size_bytes != wanted:
            why = f"shape {list(self.shape)} needs {wanted} bytes, there are {self.content.size_bytes}"
            raise UntranslatableModel(f"tensor {self.name!r}", why)

    @property
    def size_bytes(self) -> int:
        """Of its data, without padding."""
        return self.content.size_bytes


def passed(info: TensorInfo, name: str = "", shape: Sequence[int] = ()) -> Recipe:
    """A tensor as it is, perhaps under another name or in another shape of the same bytes."""
    return Recipe(name or info.name, tuple(shape) or info.shape, info.type_name, _all_of(info))


def cut(info: TensorInfo, rows: int, name: str = "", first: int = 0) -> Recipe:
    """`rows` rows of a matrix from row `first` on."""
    if len(info.shape) != 2 or not 0 <= first <= first + rows <= info.shape[1]:
        raise UntranslatableModel(
            f"tensor {info.name!r}", f"shape {list(info.shape)} has no rows {first}–{first + rows}"
        )
    size = row_bytes(info)
    content = Copied(Span(info.offset + first * size, rows * size))
    return Recipe(name or info.name, (info.shape[0], rows), info.type_name, content)


def merged(name: str, infos: Sequence[TensorInfo]) -> Recipe:
    """Tensors one after the other along their slowest dimension; types that differ become float32."""
    first = infos[0]
    for info in infos:
        if not info.shape or info.shape[:-1] != first.shape[:-1]:
            raise _unlike(info, first)
    return _joined(name, (*first.shape[:-1], sum(info.shape[-1] for info in infos)), infos)


def stacked(name: str, infos: Sequence[TensorInfo]) -> Recipe:
    """Tensors of one shape along a new slowest dimension; types that differ become float32."""
    first = infos[0]
    for info in infos[1:]:
        if info.shape != first.shape:
            raise _unlike(info, first)
    return _joined(name, (*first.shape, len(infos)), infos)


def interleaved(name: str, infos: Sequence[TensorInfo]) -> Recipe:
    """Stacks of matrices joined row-wise matrix by matrix: [width, rows, n] each → [width, sum of rows, n]."""
    first = infos[0]
    for info in infos:
        if len(info.shape) != 3 or (info.shape[0], info.shape[2]) != (first.shape[0], first.shape[2]):
            raise _unlike(info, first)
        if info.type_name != first.type_name:
            raise _unlike(info, first)
    units = first.shape[2]
    unit_bytes = tuple(info.size_bytes // units if units else 0 for info in infos)
    shape = (first.shape[0], sum(info.shape[1] for info in infos), units)
    content = Alternating(tuple(info.offset for info in infos), unit_bytes, units)
    return Recipe(name, shape, first.type_name, content)


def permuted(info: TensorInfo, order: Sequence[int], name: str = "") -> Recipe:
    """The rows of a matrix (the elements of a vector) in another order inside each group of `len(order)` of them."""
    vector = len(info.shape) == 1
    rows = info.shape[-1] if info.shape else 0
    if len(info.shape) not in (1, 2) or not order or rows % len(order) or len(order) > _MAX_GROUP_ROWS:
        why = f"shape {list(info.shape)} does not divide into groups of {len(order)} rows"
        raise UntranslatableModel(f"tensor {info.name!r}", why)
    if vector and block_of(info.type_name)[0] != 1:
        raise UntranslatableModel(f"tensor {info.name!r}", f"the elements of type {info.type_name} cannot be moved")
    unit = tensor_bytes((1,), info.type_name) if vector else row_bytes(info)
    content = Rearranged(info.offset, unit, len(order), rows // len(order), tuple(order))
    return Recipe(name or info.name, info.shape, info.type_name, content)


def picked(info: TensorInfo, name: str, shape: Sequence[int], *, unit: int, group: int, index: int) -> Recipe:
    """Of each `group` runs of `unit` elements the one at `index`: a frame of a convolution's kernel, for example."""
    elements, size = block_of(info.type_name)
    if min(unit, group) < 1 or not 0 <= index < group or unit % elements or info.elements % (unit * group):
        why = f"shape {list(info.shape)} does not divide into {group} runs of {unit} elements"
        raise UntranslatableModel(f"tensor {info.name!r}", why)
    content = Rearranged(info.offset, unit // elements * size, group, info.elements // (unit * group), (index,))
    return Recipe(name, tuple(shape), info.type_name, content)


def widened(recipe: Recipe, shift: float = 0.0) -> Recipe:
    """What a recipe makes, as float32, with `shift` added to each value."""
    if recipe.type_name == "F32" and not shift:
        return recipe
    content = Widened(recipe.content, recipe.type_name, recipe.name, shift)
    return Recipe(recipe.name, recipe.shape, "F32", content)


def repacked(recipe: Recipe) -> Recipe:
    """What a recipe makes of early MXFP4, as the engine's MXFP4."""
    if recipe.type_name != "MXFP4_EARLY":
        return recipe
    return Recipe(recipe.name, recipe.shape, "MXFP4", Repacked(recipe.content))


def constant(name: str, values: Floats) -> Recipe:
    """A float32 tensor that stands in no file; `values` in numpy's order of dimensions."""
    return Recipe(name, values.shape[::-1], "F32", Constant(np.ascontiguousarray(values, "<f4").tobytes()))


def computed(
    name: str, shape: Sequence[int], infos: Sequence[TensorInfo], compute: Callable[[Sequence[Floats]], Floats]
) -> Recipe:
    """A float32 tensor worked out from whole small ones, in numpy's order of dimensions; see MAX_COMPUTED_BYTES."""
    return Recipe(name, tuple(shape), "F32", Computed(tuple(infos), tuple(shape), compute))


def renamed(recipe: Recipe, name: str) -> Recipe:
    """The same tensor under another name."""
    return Recipe(name, recipe.shape, recipe.type_name, recipe.content)


def reshaped(recipe: Recipe, shape: Sequence[int]) -> Recipe:
    """The same bytes in another shape of as many elements."""
    if math.prod(shape) != math.prod(recipe.shape):
        why = f"shape {list(recipe.shape)} cannot be read as {list(shape)}"
        raise UntranslatableModel(f"tensor {recipe.name!r}", why)
    return Recipe(recipe.name, tuple(shape), recipe.type_name, recipe.content)


def _joined(name: str, shape: tuple[int, ...], infos: Sequence[TensorInfo]) -> Recipe:
    """One after the other."""
    if len({info.type_name for info in infos}) == 1:
        return Recipe(name, shape, infos[0].type_name, Joined(tuple(map(_all_of, infos))))
    return Recipe(name, shape, "F32", Joined(tuple(Widened(_all_of(i), i.type_name, i.name) for i in infos)))


def _all_of(info: TensorInfo) -> Copied:
    return Copied(Span(info.offset, info.size_bytes))


def _unlike(info: TensorInfo, first: TensorInfo) -> UntranslatableModel:
    mine, other = f"{info.type_name} {list(info.shape)}", f"{first.type_name} {list(first.shape)}"
    return UntranslatableModel(f"tensor {info.name!r}", f"{mine} does not fit beside {first.name!r}, {other}")
