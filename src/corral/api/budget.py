"""How many parts the JSON of one request may have, whether it stands in the body or in texts of the body. Pure.

A part costs memory far beyond its letters, and decoding holds the interpreter. No window holds so many of any kind.
"""

from __future__ import annotations

import re

from corral.errors import InvalidRequest

MAX_DEPTH = 1000
MAX_CONTAINERS = 2**16  # objects and arrays, some 300 bytes each
MAX_MEMBERS = 2**18  # of all objects; a bias for each token of the largest vocabulary
MAX_VALUES = 2**20  # tokens, most likely
# A text without an end is all the rest: were it only its first quote, each would be looked through anew.
_SIGNS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{\]},:]', re.DOTALL)


class PartBudget:
    """What is counted of one or several texts of JSON, broken ones too; what stands in their strings does not count."""

    def __init__(self) -> None:
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
                    raise InvalidRequest(f"the request body has more than {MAX_CONTAINERS} objects and arrays")
            elif sign in b"]}":
                depth -= 1
            elif sign in b":":
                self._members += 1
                if self._members > MAX_MEMBERS:
                    raise InvalidRequest(f"the objects of the request body have more than {MAX_MEMBERS} members")
            elif sign in b",":
                self._values += 1
                if self._values >= MAX_VALUES:
                    raise InvalidRequest(f"the request body has more than {MAX_VALUES} values")


def too_deep() -> InvalidRequest:
    """The error of a text with more levels than MAX_DEPTH."""
    return InvalidRequest(f"invalid JSON: nested over {MAX_DEPTH} levels")
