"""`View`: a file in the making, as families and projectors work on it; `finish` makes it a Translation.

It begins as the source file itself (or as nothing of it) and is changed key by key and tensor by tensor. Keys and
tensors are found by the names that they have by now; `header` still says what the source has.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

from corral.errors import UntranslatableModel
from corral.gguf import GGUFArray, GGUFHeader, TensorInfo
from corral.gguf.cursor import Cursor
from corral.gguf.encoding import Scalar, encode_array_head
from corral.gguf.types import SCALAR_FORMATS, ValueType
from corral.translate.content import Span
from corral.translate.recipes import Recipe, passed, renamed
from corral.translate.translation import MetadataValue, Translation

MAX_NAME_BYTES = 63  # of a tensor: GGML_MAX_NAME less its final zero
MAX_LAYERS = 4096  # what an array with an element a layer may have; the engine's bound is 512
MEDIA_TENSORS = ("v.", "mm.", "a.", "s.", "model.vision_tower.")  # encoders and projectors inside a text model's file
_MEDIA_KEYS = ("vision", "audio", "mm", "sam")
_ARCHITECTURE = "general.architecture"
_INTEGERS = {kind for kind, letter in SCALAR_FORMATS.items() if letter in "bBhHiIqQ"}


class View:
    """The new file so far."""

    def __init__(self, header: GGUFHeader, *, empty: bool = False) -> None:
        """`empty` begins with the `general.` keys alone, as the file of a projector does."""
        self.header = header
        self.architecture = header.architecture
        self._sources = {info.name: info for info in header.tensors}
        self._metadata = {
            key: MetadataValue(b"", Span(start, end - start))
            for key, (start, end) in header.spans.items()
            if not empty or key.startswith("general.")
        }
        self._recipes = {} if empty else {info.name: passed(info) for info in header.tensors}

    # --- what the source has ---

    def integer(self, key: str) -> int:
        """A whole number of the source's metadata; raises UntranslatableModel when it is none or is not there."""
        value = self.header.metadata.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise UntranslatableModel(f"key {key!r}", "is not there" if value is None else "is no whole number")
        return value

    def array(self, key: str) -> GGUFArray | None:
        """An array of the source's metadata, None when there is none of this name; raises when it is no array."""
        value = self.header.metadata.get(key)
        if value is not None and not isinstance(value, GGUFArray):
            raise UntranslatableModel(f"key {key!r}", "is no array")
        return value

    def integers(self, key: str, limit: int = MAX_LAYERS) -> list[int]:
        """The elements of an array of whole numbers, none when there is no such key; raises when it is another thing.

        `limit` bounds the length: by default as many as a model can have layers.
        """
        array = self.array(key)
        if array is None:
            return []
        if array.type not in _INTEGERS or array.length > limit:
            raise UntranslatableModel(f"key {key!r}", f"is no array of up to {limit} whole numbers")
        return array.read()

    def source(self, name: str) -> TensorInfo | None:
        """A tensor of the source."""
        return self._sources.get(name)

    def need(self, name: str) -> TensorInfo:
        """A tensor of the source that has to be there; raises UntranslatableModel."""
        info = self._sources.get(name)
        if info is None:
            raise UntranslatableModel(f"tensor {name!r}", "is not there")
        return info

    def sources(self, *prefixes: str) -> list[TensorInfo]:
        """The source's tensors whose names begin so, in the file's order."""
        return [info for info in self.header.tensors if info.name.startswith(prefixes)]

    # --- keys of the new file ---

    def __contains__(self, key: str) -> bool:
        """Whether the new file has this key by now."""
        return key in self._metadata

    def become(self, architecture: str) -> None:
        """Give the file another architecture: all keys below the old one move below the new one."""
        old, self.architecture = f"{self.architecture}.", architecture
        moved = {
            key: f"{architecture}.{key.removeprefix(old)}" if key.startswith(old) else key for key in self._metadata
        }
        self._metadata = {moved[key]: value for key, value in self._metadata.items()}
        self.put(_ARCHITECTURE, ValueType.STRING, architecture)

    def put(self, key: str, kind: ValueType, value: Scalar) -> None:
        """Set a key, whatever it was."""
        try:
            self._metadata[key] = MetadataValue.scalar(kind, value)
        except (struct.error, OverflowError) as error:
            raise UntranslatableModel(f"key {key!r}", f"{value} is no {kind.name.lower()}") from error

    def put_array(self, key: str, kind: ValueType, values: Sequence[Scalar]) -> None:
        """Set an array, whatever the key was."""
        try:
            self._metadata[key] = MetadataValue.array(kind, values)
        except (struct.error, OverflowError) as error:
            raise UntranslatableModel(f"key {key!r}", f"its values are no {kind.name.lower()}") from error

    def default(self, key: str, kind: ValueType, value: Scalar) -> None:
        """Set a key that is not there."""
        if key not in self._metadata:
            self.put(key, kind, value)

    def copy(self, key: str, to: str) -> None:
        """Give a source key's value to a key that is not there; nothing happens when the source lacks it."""
        if key in self.header.spans and to not in self._metadata:
            start, end = self.header.spans[key]
            self._metadata[to] = MetadataValue(b"", Span(start, end - start))

    def put_bytes(self, key: str, data: bytes) -> None:
        """Set an array of UINT8, whatever the key was."""
        self._metadata[key] = MetadataValue(encode_array_head(ValueType.UINT8, len(data)) + data)

    def rename(self, names: Mapping[str, str]) -> None:
        """Rename keys of the new file that are there; one of that name that is there already stays."""
        for key, to in names.items():
            value = self._metadata.pop(key, None)
            if value is not None:
                self._metadata.setdefault(to, value)

    def drop(self, *prefixes: str) -> None:
        """Leave out all keys that begin so."""
        self._metadata = {key: value for key, value in self._metadata.items() if not key.startswith(prefixes)}

    def cut_array(self, key: str, length: int) -> None:
        """Keep the first `length` elements of one of the source's arrays; a shorter one stays."""
        array = self.array(key)
        if array is not None and array.length > length:
            elements = Span(array.offset, _array_bytes(array, length, key))
            self._metadata[key] = MetadataValue.array_of(array.type, length, elements)

    # --- tensors of the new file ---

    @property
    def tensors(self) -> Mapping[str, Recipe]:
        """The new file's tensors by now."""
        return self._recipes

    def must_have(self, name: str) -> Recipe:
        """A tensor of the new file that has to be there; raises UntranslatableModel."""
        recipe = self._recipes.get(name)
        if recipe is None:
            raise UntranslatableModel(f"tensor {name!r}", "is not there")
        return recipe

    def leave_out(self, *prefixes: str) -> None:
        """Leave out all tensors whose names begin so."""
        self._recipes = {name: one for name, one in self._recipes.items() if not name.startswith(prefixes)}

    def remove(self, names: Iterable[str]) -> None:
        """Leave out the tensors of these names."""
        gone = set(names)
        self._recipes = {name: one for name, one in self._recipes.items() if name not in gone}

    def add(self, *recipes: Recipe) -> None:
        """Put tensors in, in place of those of the same names."""
        for recipe in recipes:
            self._recipes[recipe.name] = recipe

    def text_only(self) -> None:
        """Leave out what is for eyes and ears, tensors and keys."""
        self.leave_out(*MEDIA_TENSORS)
        self.drop(
            *(f"{name}.{part}." for name in (self.header.architecture, self.architecture) for part in _MEDIA_KEYS)
        )

    def take(self, *prefixes: str) -> None:
        """Put the source's tensors in whose names begin so."""
        self.add(*map(passed, self.sources(*prefixes)))

    def change(self, name: str, change: Callable[[Recipe], Recipe]) -> None:
        """Replace a tensor, if it is there, by what `change` makes of it."""
        recipe = self._recipes.get(name)
        if recipe is not None:
            self._recipes[name] = change(recipe)

    def rename_tensor(self, old: str, new: str) -> None:
        """Rename one tensor, if it is there; raises UntranslatableModel when the new name is taken."""
        if old in self._recipes:
            self._rename_all({old: new})

    def rename_tensors(self, parts: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Replace parts of names, one rule after the other; a rule applies to the first place in a name.

        Raises UntranslatableModel when two tensors end up with one name.
        """
        for old, new in parts.items() if isinstance(parts, Mapping) else parts:
            self._rename_all({name: name.replace(old, new, 1) for name in self._recipes if old in name})

    def rename_ends(self, ends: Mapping[str, str]) -> None:
        """Replace the ends of names; raises as `rename_tensors` does."""
        for old, new in ends.items():
            self._rename_all({name: name[: -len(old)] + new for name in self._recipes if name.endswith(old)})

    def _rename_all(self, names: Mapping[str, str]) -> None:
        after: dict[str, Recipe] = {}
        for name, recipe in self._recipes.items():
            to = names.get(name, name)
            if to in after or (to != name and to in self._recipes):
                raise UntranslatableModel(f"tensor {name!r}", f"there is a {to!r} already")
            after[to] = renamed(recipe, to) if to != name else recipe
        self._recipes = after

    def finish(self) -> Translation:
        """The file as it is by now; raises UntranslatableModel for names that the engine cannot hold."""
        for name in self._recipes:
            if len(name.encode()) > MAX_NAME_BYTES:
                raise UntranslatableModel(f"tensor {name!r}", f"the name is longer than {MAX_NAME_BYTES} bytes")
        tensors = tuple(self._recipes.values())
        return Translation(self.architecture, tuple(self._metadata.items()), tensors, self.header.alignment)


def _array_bytes(array: GGUFArray, length: int, key: str) -> int:
    """Bytes of an array's first `length` elements."""
    if array.type is not ValueType.STRING:
        return length * struct.calcsize(f"<{SCALAR_FORMATS[array.type]}")
    with array.path.open("rb", buffering=0) as file:
        cursor = Cursor(file.fileno(), file.seek(0, 2), array.offset)
        cursor.skip_strings(length, f"the array {key!r}")
        return cursor.position - array.offset
