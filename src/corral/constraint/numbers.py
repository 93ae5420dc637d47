"""Numbers as regular expressions: in a range, of so many digits that they end. Pure; `jsonrules.py` calls it.

The engine would write a number's digits for as long as the model likes them. As in llama.cpp's own converter each part
is bounded: 19 digits before the point (where integers of 64 bits fit), 16 behind it, and 2 in an exponent, which only
numbers without bounds have.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext

from corral.constraint.shapes import Bound, Number

MOST_DIGITS = 19
_FRACTION_DIGITS = 16
_PRECISION = 60  # of the arithmetic: more than all digits together
_LARGEST = Decimal(10**MOST_DIGITS - 1)
_LARGEST_WHOLE = Decimal(2**63 - 1)
_SMALLEST_WHOLE = Decimal(-(2**63))
_WHOLE = r"(?:0|[1-9][0-9]{0,18})"
_PLAIN = rf"-?{_WHOLE}(?:\.[0-9]{{1,16}})?(?:[eE][+-]?[0-9]{{1,2}})?"


class OutOfReach(Exception):
    """A range that no number of these digits is in."""


def number_terminal(shape: Number) -> str:
    """A terminal in lark for the numbers of a shape without values, and with no multiple but a power of ten.

    Raises OutOfReach.
    """
    digits = fraction_digits(shape)
    if digits and shape.low is None and shape.high is None and shape.multiple is None:
        return f"/{_PLAIN}/"
    least, most = (-_LARGEST, _LARGEST) if digits else (_SMALLEST_WHOLE, _LARGEST_WHOLE)
    with localcontext(prec=_PRECISION):
        return _range(_above(shape.low, Bound(least)), _below(shape.high, Bound(most)), digits)


def out_of_reach(shape: Number) -> str:
    """Why no number of our digits is on the right side of one of the bounds; "" if some are."""
    for bounds in ((shape.low, None), (None, shape.high)):
        try:
            number_terminal(Number(shape.whole, *bounds))
        except OutOfReach as error:
            return str(error)
    return ""


def fraction_digits(shape: Number) -> int:
    """How many digits may stand behind the point."""
    if shape.whole:
        return 0
    if shape.multiple is None:
        return _FRACTION_DIGITS
    return max(0, -int(shape.multiple.normalize().as_tuple().exponent))


def is_power_of_ten(multiple: Decimal) -> bool:
    """Whether multiples of it are told by the number of digits behind the point."""
    return multiple <= 1 and multiple.normalize().as_tuple().digits == (1,)


def number_text(value: Decimal) -> str:
    """A number as JSON."""
    if value == value.to_integral_value():
        return str(int(value))
    return format(value.normalize(), "f" if value.adjusted() > -_FRACTION_DIGITS else "E")


def _above(bound: Bound | None, least: Bound) -> Bound:
    """The bound, or `least` when that is higher."""
    if bound is None or bound.value < least.value:
        return least
    if bound.value > _LARGEST:
        raise OutOfReach(f"numbers of more than {MOST_DIGITS} digits cannot be held")
    return bound


def _below(bound: Bound | None, most: Bound) -> Bound:
    if bound is None or bound.value > most.value:
        return most
    if bound.value < -_LARGEST:
        raise OutOfReach(f"numbers of more than {MOST_DIGITS} digits cannot be held")
    return bound


def _range(low: Bound, high: Bound, digits: int) -> str:
    """A terminal for low ≤ number ≤ high with at most so many digits behind the point."""
    low = _rounded(low, digits, ROUND_CEILING)
    high = _rounded(high, digits, ROUND_FLOOR)
    arms = []
    if high.value > 0 or (high.value == 0 and not high.exclusive):
        least = low if low.value >= 0 else Bound(Decimal(0))
        arms.append(_magnitudes(least, high, digits))
    if low.value < 0:
        most = Bound(-low.value, low.exclusive)
        least = Bound(-high.value, high.exclusive) if high.value < 0 else Bound(Decimal(0), exclusive=True)
        arms.append(f'"-" {_magnitudes(least, most, digits)}')
    if not arms or low.value > high.value or (low.value == high.value and (low.exclusive or high.exclusive)):
        raise OutOfReach(f"no number with {digits} digits behind the point is in the range")
    return " | ".join(arms)


def _rounded(bound: Bound, digits: int, rounding: str) -> Bound:
    """The bound with so many digits behind the point, rounded inwards."""
    value = bound.value.quantize(Decimal(1).scaleb(-digits), rounding=rounding)
    return bound if value == bound.value else Bound(value)


def _magnitudes(low: Bound, high: Bound, digits: int) -> str:
    """Numbers without a sign."""
    form = _WHOLE + (rf"(?:\.[0-9]{{1,{digits}}})?" if digits else "")
    terms = [f"/{form}/"]
    if low.value > 0 or low.exclusive:
        terms.append(f"/{_at_least(low, whole=not digits)}/")
    terms.append(f"/{_at_most(high, whole=not digits)}/")
    return f"({' & '.join(terms)})"


def _parts(value: Decimal) -> tuple[str, str]:
    whole, _, fraction = format(value, "f").partition(".")
    return whole, fraction.rstrip("0")


def _at_least(bound: Bound, *, whole: bool) -> str:
    number, fraction = _parts(bound.value)
    rest = "" if whole else r"(?:\.[0-9]+)?"
    size = len(number)
    arms = []
    if size < MOST_DIGITS:
        arms.append(f"[1-9][0-9]{{{size},{MOST_DIGITS - 1}}}{rest}")
    for at, digit in enumerate(number):
        if digit != "9":
            arms.append(f"{number[:at]}[{int(digit) + 1}-9][0-9]{{{size - at - 1}}}{rest}")
    if fraction:
        arms.append(rf"{number}\.{_fraction_at_least(fraction, bound.exclusive)}")
    elif not bound.exclusive:
        arms.append(number + rest)
    elif not whole:
        arms.append(rf"{number}\.[0-9]*[1-9][0-9]*")
    return "|".join(arms)


def _fraction_at_least(digits: str, exclusive: bool) -> str:
    if not digits:
        return "[0-9]*[1-9][0-9]*" if exclusive else "[0-9]*"
    digit, rest = digits[0], _fraction_at_least(digits[1:], exclusive)
    higher = "" if digit == "9" else f"[{int(digit) + 1}-9][0-9]*|"
    return f"(?:{higher}{digit}{rest})"


def _at_most(bound: Bound, *, whole: bool) -> str:
    number, fraction = _parts(bound.value)
    rest = "" if whole else r"(?:\.[0-9]+)?"
    size = len(number)
    arms = [f"(?:0|[1-9][0-9]{{0,{size - 2}}}){rest}"] if size > 1 else []
    for at, digit in enumerate(number):
        least = 1 if at == 0 and size > 1 else 0
        if int(digit) > least:
            arms.append(f"{number[:at]}[{least}-{int(digit) - 1}][0-9]{{{size - at - 1}}}{rest}")
    if fraction:
        lower = _fraction_at_most(fraction, bound.exclusive)
        arms.append(rf"{number}(?:\.(?:{lower}))?" if lower else number)
    elif not bound.exclusive:
        arms.append(number if whole else rf"{number}(?:\.0+)?")
    return "|".join(arms)


def _fraction_at_most(digits: str, exclusive: bool) -> str:
    """Digits behind the point that are lower, at least one; "" when there are none."""
    digit, rest = digits[0], digits[1:]
    arms = [] if digit == "0" else [f"[0-{int(digit) - 1}][0-9]*"]
    if rest:
        lower = _fraction_at_most(rest, exclusive)
        arms.append(f"{digit}(?:{lower})?" if lower else digit)
    elif not exclusive:
        arms.append(f"{digit}0*")
    return "|".join(arms)
