"""What surrounds a SentencePiece vocabulary: the blank before a text, the map of characters, tokens at both ends."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_NORMALIZER_SPEC = 3  # field numbers. Source: sentencepiece_model.proto, 2026-08
_ADD_DUMMY_PREFIX = 3


def adds_space(tokenizer: Mapping[str, Any], model: Path | None = None) -> bool:
    """True for a vocabulary that turns "x" into "▁x"."""
    if tokenizer:
        return any(_prepends(part) for key in ("normalizer", "pre_tokenizer") for part in _flat(tokenizer.get(key)))
    return model is None or _says_so(model.read_bytes())


def charsmap(tokenizer: Mapping[str, Any]) -> bytes:
    """The compiled map of characters to normal ones; empty without one. Raises ValueError for what is no base64."""
    maps = (part.get("precompiled_charsmap") for part in _flat(tokenizer.get("normalizer")))
    return base64.b64decode(next((text for text in maps if isinstance(text, str)), ""), validate=True)


def frame(tokenizer: Mapping[str, Any]) -> dict[str, bool]:
    """Whether a text gets a token before (bos) and after (eos), told by the post-processor."""
    spec = tokenizer.get("post_processor")
    if not isinstance(spec, dict):
        return {}
    if spec.get("type") in {"RobertaProcessing", "BertProcessing"}:
        return {"bos": True, "eos": True}
    single = spec.get("single")
    if spec.get("type") != "TemplateProcessing" or not isinstance(single, list) or not single:
        return {}
    ends = [isinstance(part, dict) and "SpecialToken" in part for part in (single[0], single[-1])]
    return {"bos": ends[0], "eos": ends[1]}


def template_ends(tokenizer: Mapping[str, Any]) -> dict[str, str]:
    """The tokens' texts that the post-processor's template puts before (bos) and after (eos) a text."""
    spec = tokenizer.get("post_processor")
    for part in _flat(spec):
        single = part.get("single")
        if part.get("type") == "TemplateProcessing" and isinstance(single, list) and len(single) > 1:
            ends = (end.get("SpecialToken") if isinstance(end, dict) else None for end in (single[0], single[-1]))
            texts = (str(end.get("id", "")) if isinstance(end, dict) else "" for end in ends)
            return dict(zip(("bos", "eos"), texts, strict=True))
    return {}


def _prepends(part: Mapping[str, Any]) -> bool:
    if part.get("type") == "Prepend":
        return True
    scheme = part.get("prepend_scheme", "always" if part.get("add_prefix_space", True) else "never")
    return part.get("type") == "Metaspace" and scheme != "never"


def _flat(spec: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(spec, dict):
        return
    yield spec
    for key in ("normalizers", "pretokenizers", "processors"):
        for part in spec.get(key) or ():
            if isinstance(part, dict):
                yield part


def _says_so(model: bytes) -> bool:
    """`add_dummy_prefix` of the model's normalizer, which is on unless it says otherwise."""
    for field, value in _fields(model):
        if field == _NORMALIZER_SPEC and isinstance(value, bytes):
            for inner, flag in _fields(value):
                if inner == _ADD_DUMMY_PREFIX:
                    return bool(flag)
    return True


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer message, until its end or its first damage."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif kind == 2:
            length, at = _varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length
        elif kind in {1, 5}:
            at += 8 if kind == 1 else 4
        else:
            return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at
