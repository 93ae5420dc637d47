"""`HubConfig`: config.json read with types. What a hostile or odd file says is an InvalidRequest that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corral.errors import InvalidRequest

_LARGEST = 2**31 - 1
LARGEST_FLOAT32 = 3.4e38
_MOST_LAYERS = 1024


class HubConfig:
    """One object of config.json; several spellings of a key may be given, the first that is present counts."""

    def __init__(self, values: Mapping[str, Any], where: str = "config.json") -> None:
        self.values = dict(values)
        self._where = where

    def has(self, name: str) -> bool:
        """Whether a key is there and not null."""
        return self.values.get(name) is not None

    def integer(self, *names: str, default: int | None = None, least: int = 0, most: int = _LARGEST) -> int:
        """A whole number. Raises InvalidRequest when it is missing without a default, no number, or out of range."""
        value = self._first(names, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise self._wrong(names, "a whole number")
        if not least <= value <= most:
            raise self._wrong(names, f"a number from {least} to {most}")
        return int(value)

    def count(self, *names: str, default: int | None = None, most: int = _LARGEST) -> int:
        """A whole number of at least 1."""
        return self.integer(*names, default=default, least=1, most=most)

    def layers(self) -> int:
        """How many layers there are; bounded, since a list is made of them."""
        return self.count("num_hidden_layers", "depth", "n_layers", "n_layer", most=_MOST_LAYERS)

    def number(self, *names: str, default: float | None = None) -> float:
        """A number that float32 can hold."""
        value = self._first(names, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_FLOAT32:
            raise self._wrong(names, "a number")
        return float(value)

    def positive(self, *names: str, default: float | None = None) -> float:
        """A number above zero."""
        value = self.number(*names, default=default)
        if value <= 0:
            raise self._wrong(names, "a number above zero")
        return value

    def flag(self, *names: str, default: bool = False) -> bool:
        """A boolean."""
        value = self._first(names, default)
        if not isinstance(value, bool):
            raise self._wrong(names, "true or false")
        return value

    def text(self, *names: str, default: str | None = None) -> str:
        """A text."""
        value = self._first(names, default)
        if not isinstance(value, str):
            raise self._wrong(names, "a text")
        return value

    def integers(self, *names: str, default: list[int] | None = None) -> list[int]:
        """A list of whole numbers."""
        value = self._first(names, default)
        if not isinstance(value, list) or not all(isinstance(n, int) and 0 <= n <= _LARGEST for n in value):
            raise self._wrong(names, "a list of whole numbers")
        return [int(n) for n in value]

    def numbers(self, *names: str, default: list[float] | None = None) -> list[float]:
        """A list of numbers."""
        value = self._first(names, default)
        if not isinstance(value, list) or not all(
            isinstance(n, int | float) and abs(n) <= LARGEST_FLOAT32 for n in value
        ):
            raise self._wrong(names, "a list of numbers")
        return [float(n) for n in value]

    def texts(self, *names: str, default: list[str] | None = None) -> list[str]:
        """A list of texts."""
        value = self._first(names, default)
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise self._wrong(names, "a list of texts")
        return list(value)

    def section(self, name: str) -> HubConfig:
        """An inner object; an empty one when it is absent."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self._wrong((name,), "an object")
        return HubConfig(value or {}, f"{self._where}: {name}")

    def text_model(self) -> HubConfig:
        """The language model's part: multimodal configs keep it under `text_config`, over which the rest is a base."""
        return HubConfig({**self.values, **self.section("text_config").values}, self._where)

    def with_defaults(self, **defaults: Any) -> HubConfig:
        """The same with values for keys that are absent or null."""
        known = {key: value for key, value in self.values.items() if value is not None}
        return HubConfig({**defaults, **known}, self._where)

    def replaced(self, values: Mapping[str, Any]) -> HubConfig:
        """Other values, read from the same place."""
        return HubConfig(values, self._where)

    def refuse(self, name: str, expected: str) -> InvalidRequest:
        """The error for a key whose value cannot be imported."""
        return self._wrong((name,), expected)

    def _first(self, names: tuple[str, ...], default: Any) -> Any:
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        if default is None:
            raise InvalidRequest(f"{self._where}: {names[0]} is missing", field="files")
        return default

    def _wrong(self, names: tuple[str, ...], expected: str) -> InvalidRequest:
        name = next((name for name in names if self.values.get(name) is not None), names[0])
        shown = repr(self.values.get(name))[:60]
        return InvalidRequest(f"{self._where}: {name} is {shown}, expected {expected}", field="files")
