"""`Weight`: shapes known before values, values read a piece at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.convert import weights as module
from corral.convert.weights import Array, Weight, as_float32, joined, round_bfloat16, stacked, widen_bfloat16
from corral.errors import InvalidRequest


def weight(*shape: int, name: str = "w") -> Weight:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Weight(name, shape, "F32", lambda a, b: values[a:b])


def whole(part: Weight) -> Array:
    return np.concatenate(list(part.pieces()))


@pytest.mark.parametrize(
    ("made", "want"),
    [
        (lambda w: w.cut(1, 3), lambda v: v[1:3]),
        (lambda w: w.cut(1, 3, axis=1), lambda v: v[:, 1:3]),
        (lambda w: w.cut(0, 1, axis=-1), lambda v: v[..., :1]),
        (lambda w: w.every(2, 1, axis=0), lambda v: v[1::2]),
        (lambda w: w.every(2, 0, axis=2), lambda v: v[:, :, ::2]),
        (lambda w: w.transposed(), lambda v: v.swapaxes(1, 2)),
        (lambda w: w.shaped(4, 24), lambda v: v.reshape(4, 24)),
        (lambda w: w.shaped(8, 12), lambda v: v.reshape(8, 12)),
        (lambda w: w.cut(2, 4).transposed().shaped(2, 24), lambda v: v[2:].swapaxes(1, 2).reshape(2, 24)),
        (lambda w: w.computed(lambda x: x + 1), lambda v: v + 1),
        (lambda w: stacked([w, w.computed(lambda x: -x)]), lambda v: np.stack([v, -v])),
        (lambda w: joined([w, w.cut(0, 1)]), lambda v: np.concatenate([v, v[:1]])),
    ],
)
def test_operations_are_what_numpy_does_and_know_their_shape(
    made: object, want: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", 200)  # one or two rows at a time
    source = weight(4, 6, 4)
    result, expected = made(source), want(source.read())  # type: ignore[operator]
    assert result.shape == expected.shape
    np.testing.assert_array_equal(whole(result), expected)


def test_a_stack_reads_one_member_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE_BYTES", 1)
    alive: list[int] = []
    most = 0

    def member(number: int) -> Weight:
        def rows(start: int, stop: int) -> Array:
            alive.append(number)
            return np.full((stop - start, 3), number, np.float32)

        return Weight(str(number), (2, 3), "F32", rows)

    for piece in stacked([member(number) for number in range(5)]).pieces():
        most = max(most, len(alive))
        alive.clear()
        assert piece.shape == (1, 2, 3)
    assert most == 1


@pytest.mark.parametrize("join", [stacked, joined])
def test_members_that_differ_are_named_with_both_shapes(join: object) -> None:
    with pytest.raises(InvalidRequest, match=r"tensor 'b' has shape \[2, 4\].*'a', \[2, 3\]"):
        join([weight(2, 3, name="a"), weight(2, 4, name="b")])  # type: ignore[operator]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda w: w.need_dims(3, 4),
        lambda w: w.need_multiple(4),
        lambda w: w.need_multiple(0),
        lambda w: w.need_length(7, axis=1),
        lambda w: w.shaped(5, 5),
    ],
)
def test_a_shape_that_the_config_does_not_account_for_is_named(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match=r"tensor 'w' has shape \[6, 4\]; config\.json asks for"):
        wrong(weight(6, 4))  # type: ignore[operator]


@given(st.lists(st.floats(width=32, allow_infinity=True, allow_nan=True), min_size=1, max_size=20))
def test_bfloat16_is_rounded_to_the_nearest(values: list[float]) -> None:
    floats = np.array(values, np.float32)
    rounded = widen_bfloat16(round_bfloat16(floats))
    np.testing.assert_array_equal(np.isnan(rounded), np.isnan(floats))
    finite = np.isfinite(floats) & np.isfinite(rounded)
    step = np.abs(floats[finite]) * 2.0**-8 + 1e-40
    assert (np.abs(rounded[finite].astype(np.float64) - floats[finite]) <= step).all()


def test_bfloat16_ties_go_to_even_and_bits_pass_unchanged() -> None:
    ties = np.array([1.00390625, 1.01171875], np.float32)  # half a step above 1 and above 1.0078125
    np.testing.assert_array_equal(widen_bfloat16(round_bfloat16(ties)), [1.0, 1.015625])
    bits = np.arange(0, 0x7F80, 7, dtype=np.uint16)
    np.testing.assert_array_equal(round_bfloat16(as_float32(bits, "BF16")), bits)
