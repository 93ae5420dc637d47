"""Go's %q, literally. Source of the vectors: Go's strconv.Quote and QuoteToASCII, go1.26."""

from __future__ import annotations

import pytest

from corral.goquote import quote


@pytest.mark.parametrize(
    ("text", "quoted", "in_ascii"),
    [
        ("plain", '"plain"', '"plain"'),
        ('a"b\\', r'"a\"b\\"', r'"a\"b\\"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"', r'"\a\b\f\n\r\t\v"'),
        ("\0\x7f", r'"\x00\x7f"', r'"\x00\x7f"'),
        ("é\u2028", r'"é\u2028"', r'"\u00e9\u2028"'),
        ("\U0001f600", '"\U0001f600"', r'"\U0001f600"'),
    ],
)
def test_quotes_as_go_does(text: str, quoted: str, in_ascii: str) -> None:
    assert quote(text) == quoted
    assert quote(text, ascii_only=True) == in_ascii


def test_the_mark_is_what_is_escaped() -> None:
    assert quote("'\"", "'") == r"""'\'"'"""
