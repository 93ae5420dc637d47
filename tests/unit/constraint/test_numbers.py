"""Ranges of numbers as regular expressions: exactly the numbers in the range."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.constraint.matching import matches

from corral.constraint.lark import Lark
from corral.constraint.numbers import OutOfReach, number_terminal, number_text
from corral.constraint.shapes import Bound, Number


@cache
def grammar_of(shape: Number) -> str:
    lark = Lark()
    return lark.text(lark.rule(number_terminal(shape), terminal=True))


def bounds(low: str | None, high: str | None) -> tuple[Bound | None, Bound | None]:
    """`>1` and `<1` are exclusive."""
    made = [None if text is None else Bound(Decimal(text.lstrip("<>")), text[0] in "<>") for text in (low, high)]
    return made[0], made[1]


@pytest.mark.parametrize(
    ("low", "high"), [(3, 12), (-12, 3), (0, 0), (-9, -9), (7, 7), (99, 101), (-101, -99), (1, 999), (195, 1005)]
)
def test_integers_of_a_range(low: int, high: int) -> None:
    grammar = grammar_of(Number(whole=True, low=Bound(Decimal(low)), high=Bound(Decimal(high))))
    for number in range(low - 20, high + 21):
        assert matches(grammar, str(number)) == (low <= number <= high), number


@pytest.mark.parametrize(
    ("low", "high", "good", "bad"),
    [
        ("-1.25", "<0.5", ["-1.25", "-1.2", "0", "0.49", "0.499", "-0.3"], ["0.5", "-1.26", "0.51", "1"]),
        (">0", None, ["0.1", "1", "0.0000000001"], ["0", "0.0", "-1"]),
        (None, "<0", ["-0.1", "-5"], ["0", "0.0", "1"]),
        ("0.05", "0.1", ["0.05", "0.0500", "0.1", "0.07"], ["0.04", "0.11", "0", "0.2"]),
        (">1", "<2", ["1.5", "1.0001", "1.9999"], ["1", "2", "1.0", "2.0"]),
        ("9.99", "10.01", ["9.99", "10", "10.0", "10.01"], ["9.98", "10.011"]),
        ("1e-20", None, ["0.0000000000000001"], ["0"]),
    ],
)
def test_numbers_of_a_range(low: str | None, high: str | None, good: list[str], bad: list[str]) -> None:
    grammar = grammar_of(Number(False, *bounds(low, high)))
    assert [text for text in good if not matches(grammar, text)] == []
    assert [text for text in bad if matches(grammar, text)] == []


DECIMALS = st.decimals(-2000, 2000, places=3, allow_nan=False, allow_infinity=False)


@given(low=DECIMALS, high=DECIMALS, number=DECIMALS, exclusive=st.booleans())
def test_any_number_is_in_the_range_or_not(low: Decimal, high: Decimal, number: Decimal, exclusive: bool) -> None:
    low, high = min(low, high), max(low, high)
    shape = Number(low=Bound(low, exclusive), high=Bound(high, exclusive))
    inside = low < number < high or (not exclusive and low <= number <= high)
    if low == high and exclusive:
        return
    text = format(number, "f")
    assert matches(grammar_of(shape), text.replace("-0.000", "0")) == inside


@pytest.mark.parametrize(
    "shape",
    [
        Number(low=Bound(Decimal(10**20))),
        Number(high=Bound(Decimal(-(10**20)))),
        Number(whole=True, low=Bound(Decimal(2**63))),
        Number(low=Bound(Decimal("1e-20")), high=Bound(Decimal("2e-20"))),
        Number(low=Bound(Decimal("0.5"), exclusive=True), high=Bound(Decimal("0.5"))),
    ],
)
def test_a_range_without_numbers_of_our_digits_is_refused(shape: Number) -> None:
    with pytest.raises(OutOfReach):
        number_terminal(shape)


@pytest.mark.parametrize(("value", "text"), [("1.0", "1"), ("-2.50", "-2.5"), ("1e3", "1000"), ("1e-30", "1E-30")])
def test_a_number_as_json(value: str, text: str) -> None:
    assert number_text(Decimal(value)) == text
