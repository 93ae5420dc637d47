"""`Parts`: the texts and images of one message, in the order sent. The readers of all APIs fill it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from corral.core import Message


class Parts:
    """Content in the making: neighbouring texts are joined by `separator`, images stand where they came."""

    def __init__(self, separator: str = "") -> None:
        self._separator = separator
        self._pieces: list[str] = []
        self._length = 0
        self._images: list[bytes] = []
        self._places: list[int] = []

    def __bool__(self) -> bool:
        """Whether there is anything, if only an empty text."""
        return bool(self._pieces or self._images)

    @property
    def content(self) -> str:
        """All text."""
        return "".join(self._pieces)

    def add_text(self, text: str) -> None:
        """Add a text."""
        follows_text = bool(self._pieces) and not (self._places and self._places[-1] == self._length)
        piece = self._separator + text if follows_text else text
        self._pieces.append(piece)
        self._length += len(piece)

    def add_image(self, image: bytes) -> None:
        """Add an image or a sound."""
        self._images.append(image)
        self._places.append(self._length)

    def add_texts(self, texts: Iterable[str]) -> None:
        """Add several texts."""
        for text in texts:
            self.add_text(text)

    def message(self, role: str, **fields: Any) -> Message:
        """The message that these parts make; `fields` as Message has them."""
        return Message(role, self.content, images=tuple(self._images), places=tuple(self._places), **fields)
