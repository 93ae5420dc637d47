"""How many parts JSON from outside may have: in a request's body, in its texts, in a model's layer. Pure.

A part costs memory far beyond its letters, and decoding holds the interpreter. No window holds so many of any kind.
"""

from __future__ import annotations

import re

from corral.errors import InvalidRequest

MAX_DEPTH = 1000
MAX_CONTAINERS = 2**16  # objects and arrays, some 300 bytes each
MAX_MEMBERS = 2**18  # of all objects; a bias for each token of the largest vocabulary
MAX_VALUES = 2**20  # tokens, most likely
MAX_WIDE_BYTES = 128 * 2**20  # of memory, for texts beyond ASCII: 32 million characters, or more
_LONG_TEXT = 2**16  # shorter ones are not looked into
_FOUR_BYTES = re.compile(rb"[\xf0-\xff]|\\u[dD][89abAB]")  # one such character, and each of its text takes four bytes
_TWO_BYTES = re.compile(rb"[\xc4-\xff]|\\u(?!00)")
# A text without an end is all the rest: were it only its first quote, each would be looked through anew.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_SIGNS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{\]},:]', re.DOTALL)


class PartBudget:
    """What is counted of one or several texts of JSON, broken ones too; what stands in their strings does not count.

    what: whose parts they are, for the errors.
    """

    def __init__(self, what: str = "the request body") -> None:
        self._what = what
        self._containers = self._members = self._values = 0

    def take(self, data: bytes) -> None:
        """Count a text before it is decoded. Raises InvalidRequest for more levels or parts than there may be."""
        depth = 0
        for match in _SIGNS.finditer(data):
            sign = data[match.start()]
            if sign in b"[{":
                depth += 1
                self._containers += 1
                if depth > MAX_DEPTH:
                    raise too_deep()
                if self._containers > MAX_CONTAINERS:
                    raise InvalidRequest(f"{self._what} has more than {MAX_CONTAINERS} objects and arrays")
            elif sign in b"]}":
                depth -= 1
            elif sign in b":":
                self._members += 1
                if self._members > MAX_MEMBERS:
                    raise InvalidRequest(f"the objects of {self._what} have more than {MAX_MEMBERS} members")
            elif sign in b",":
                self._values += 1
                if self._values >= MAX_VALUES:
                    raise InvalidRequest(f"{self._what} has more than {MAX_VALUES} values")


def too_deep() -> InvalidRequest:
    """The error of a text with more levels than MAX_DEPTH."""
    return InvalidRequest(f"invalid JSON: nested over {MAX_DEPTH} levels")


def wide_bytes(data: bytes, what: str = "the request body") -> int:
    """The memory that the long texts of JSON take, those beyond ASCII, each once. Blocking for large ones.

    Raises InvalidRequest for more than MAX_WIDE_BYTES.
    """
    if data.isascii() and b"\\u" not in data:
        return 0
    total = 0
    for match in _STRING.finditer(data):
        start, end = match.span()
        if end - start >= _LONG_TEXT:
            total += (end - start) * _width(data, start, end)
            if total > MAX_WIDE_BYTES:
                raise InvalidRequest(f"the texts of {what} take more than {MAX_WIDE_BYTES} bytes of memory")
    return total


def _width(data: bytes, start: int, end: int) -> int:
    """The bytes of each character of a text; 0 for one that takes no more than its letters."""
    if _FOUR_BYTES.search(data, start, end):
        return 4
    return 2 if _TWO_BYTES.search(data, start, end) else 0
