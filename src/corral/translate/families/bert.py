"""snowflake-arctic-embed2, whose tokenizer's character map is base64, a character an element, instead of bytes.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_snowflake_arctic_embed2, 2026-08.
"""

from __future__ import annotations

import base64
import binascii

from corral.errors import UntranslatableModel
from corral.gguf import GGUFArray, GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family
from corral.translate.view import View

_MAP = "tokenizer.ggml.precompiled_charsmap"
_MAX_CHARACTERS = 2**24  # the real one has a third of a million


def _recognizes(header: GGUFHeader) -> bool:
    characters = header.metadata.get(_MAP)
    is_text = isinstance(characters, GGUFArray) and characters.type is ValueType.STRING
    return is_text and header.metadata.get("tokenizer.ggml.model") == "t5"


def _text(view: View) -> None:
    array = view.array(_MAP)
    if array is None or array.length > _MAX_CHARACTERS:
        raise UntranslatableModel(f"key {_MAP!r}", f"has more than {_MAX_CHARACTERS} characters")
    characters = []
    for character in array.iterate():
        if len(character) != 1 or not character.isascii():  # others would be an object each
            raise UntranslatableModel(f"key {_MAP!r}", "its elements are not single characters of base64")
        characters.append(character)
    text = "".join(characters).split("=", 1)[0]
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UntranslatableModel(f"key {_MAP!r}", "is no base64") from error
    if not data:
        raise UntranslatableModel(f"key {_MAP!r}", "is empty")
    view.put_bytes(_MAP, data)


FAMILY = Family("bert", ("bert",), _recognizes, _text)
