"""The runtime options: names, types, defaults, ranges, and their text forms in Modelfiles and the REPL.

| type   | JSON accepted                         | Modelfile text             |
|--------|---------------------------------------|----------------------------|
| int    | number (fractions are cut off)        | decimal digits, sign       |
| float  | number                                | a number                   |
| bool   | true, false                           | Go's ParseBool words       |
| array  | list of strings, or one string (ours) | one line an element        |
| string | string                                | text                       |

Out-of-range values are moved to the nearest that the engine takes, with a notice; wrong types are errors.
Source of names, defaults and texts: ollama api/types.go Options, FromMap, FormatParams, 2026-08.
"""

from __future__ import annotations

import difflib
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from corral.errors import InvalidRequest

OptionType = Literal["int", "float", "bool", "array", "string"]
_WORD = {"int": "integer", "float": "float32", "bool": "boolean", "array": "array", "string": "string"}
_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class OptionNotice:
    """What validating an option has to tell; becomes a `warnings` entry of the same code."""

    code: str
    message: str
    option: str


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One option. `low`/`high`: what the engine takes, inclusive. `meaning`: for people, shown by GET /api/options."""

    name: str
    type: OptionType
    default: Any = None
    low: float = -math.inf
    high: float = math.inf

    @property
    def meaning(self) -> str:
        """What it does, in a sentence."""
        return _MEANINGS[self.name]


_TABLE = (
    OptionSpec("num_ctx", "int", low=-_INT32, high=_INT32),
    OptionSpec("num_batch", "int", low=-_INT32, high=2**20),
    OptionSpec("num_gpu", "int", -1, low=-1, high=_INT32),
    OptionSpec("main_gpu", "int", low=0, high=1023),
    OptionSpec("use_mmap", "bool"),
    OptionSpec("num_thread", "int", 0, low=0, high=512),
    OptionSpec("draft_num_predict", "int", low=0, high=1024),
    OptionSpec("num_keep", "int", 4, low=-1, high=_INT32),
    OptionSpec("seed", "int", -1, low=-(2**63), high=2**63 - 1),
    OptionSpec("num_predict", "int", -1, low=-_INT32, high=_INT32),
    OptionSpec("top_k", "int", 40, low=0, high=_INT32),
    OptionSpec("top_p", "float", 0.9, low=0.0, high=1.0),
    OptionSpec("min_p", "float", 0.0, low=0.0, high=1.0),
    OptionSpec("typical_p", "float", 1.0, low=0.0, high=1.0),
    OptionSpec("repeat_last_n", "int", 64, low=-1, high=_INT32),
    OptionSpec("temperature", "float", 0.8, low=0.0, high=1e6),
    OptionSpec("repeat_penalty", "float", 1.0, low=0.0, high=1e6),
    OptionSpec("presence_penalty", "float", 0.0, low=-1e6, high=1e6),
    OptionSpec("frequency_penalty", "float", 0.0, low=-1e6, high=1e6),
    OptionSpec("stop", "array"),
    OptionSpec("on_overflow", "string"),  # ours: "truncate" or "error"
)
_MEANINGS: Mapping[str, str] = {
    "num_ctx": "Context window: how many tokens of conversation the model sees. Unset: by memory and model.",
    "num_batch": "How many tokens of a prompt are read in one step. Unset: what suits this machine.",
    "num_gpu": "How many layers go to the GPU; -1: as many as fit, 0: none.",
    "main_gpu": "Which GPU holds what cannot be divided.",
    "use_mmap": "Read weights from disk as they are needed instead of loading them whole. Unset: by memory.",
    "num_thread": "Threads that compute; 0: as many as were measured to be best.",
    "draft_num_predict": "How many tokens are drafted ahead, where the model brings a draft model.",
    "num_keep": "Tokens of the beginning that are kept when the window overflows; -1: all of the first prompt.",
    "seed": "The random numbers' beginning; with the same seed an answer can be repeated. -1: another each time.",
    "num_predict": "Most tokens that an answer may have; -1: no limit.",
    "top_k": "Only the so many most probable tokens are drawn from; 0: all.",
    "top_p": "Only the most probable tokens that together reach this probability are drawn from; 1: all.",
    "min_p": "Tokens less probable than this share of the best one's probability are not drawn; 0: off.",
    "typical_p": "Only tokens about as surprising as is usual are drawn, up to this probability; 1: off.",
    "repeat_last_n": "How many tokens back repetition is looked for; 0: off, -1: the whole window.",
    "temperature": "How much chance there is in the choice of words; 0: always the most probable one.",
    "repeat_penalty": "How much a token that has just been used is made less probable; 1: not at all.",
    "presence_penalty": "Lowers every token that has been used, once, however often; 0: off.",
    "frequency_penalty": "Lowers every token that has been used, by how often it was; 0: off.",
    "stop": "Texts at which the answer ends; the text itself is not shown.",
    "on_overflow": "When a conversation exceeds the window: truncate drops its oldest turns, error refuses.",
}
OPTIONS: Mapping[str, OptionSpec] = {spec.name: spec for spec in _TABLE}

# Once options of Ollama; accepted and ignored, with a notice.
DEPRECATED = frozenset(
    [
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    ]
)
_GONE = DEPRECATED | frozenset(["tfs_z", "numa", "num_gqa", "rope_frequency_base", "rope_frequency_scale"])

_GUIDE = {"num_ctx": 2048, "num_predict": 128, "repeat_penalty": 1.1}
_TRUE = frozenset(["1", "t", "T", "TRUE", "true", "True"])
_FALSE = frozenset(["0", "f", "F", "FALSE", "false", "False"])
_INT_TEXT = re.compile(r"[+-]?[0-9]+\Z")
_NOT_IN_FLOATS = re.compile(r"[^!-~]")  # float() takes blanks and the digits of other scripts; Go does not


def defaults(table: str = "ollama") -> dict[str, Any]:
    """Built-in values of the options that have one; `table` "guide" gives the guide's three other values."""
    values = {spec.name: spec.default for spec in _TABLE if spec.default is not None}
    return values | _GUIDE if table == "guide" else values


def validate(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[OptionNotice]]:
    """Typed values of the known options, and notices of what was ignored or moved into range.

    Nulls count as absent. Raises InvalidRequest naming the option and the accepted type.
    """
    clean: dict[str, Any] = {}
    notices: list[OptionNotice] = []
    for name, value in options.items():
        spec = OPTIONS.get(name)
        if spec is None:
            why = "is no longer supported" if name in _GONE else "is not known"
            code = "option_deprecated" if name in _GONE else "option_unknown"
            notices.append(OptionNotice(code, f'option "{name}" {why} and was ignored', name))
        elif value is not None:
            clean[name] = _bounded(spec, _typed(spec, value), notices)
    if "" in clean.get("stop", ()):
        notices.append(OptionNotice("stop_empty", 'an empty text in "stop" ends the answer before it begins', "stop"))
    if clean.get("on_overflow", "truncate") not in {"truncate", "error"}:
        raise InvalidRequest('option "on_overflow" must be "truncate" or "error"', field="options.on_overflow")
    return clean, notices


def _typed(spec: OptionSpec, value: Any) -> Any:
    if spec.type in {"int", "float"} and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise _wrong(spec, "a finite number")
        return int(value) if spec.type == "int" else float(value)
    if spec.type == "bool" and isinstance(value, bool):
        return value
    if isinstance(value, str) and spec.type in {"string", "array"}:
        return [value] if spec.type == "array" else value
    if spec.type == "array" and isinstance(value, list | tuple):
        if not all(isinstance(item, str) for item in value):
            raise _wrong(spec, "an array of strings")
        return list(value)
    raise _wrong(spec)


def _wrong(spec: OptionSpec, word: str = "") -> InvalidRequest:
    kind = f"of {word}" if word == "an array of strings" else word or f"of type {_WORD[spec.type]}"
    return InvalidRequest(f'option "{spec.name}" must be {kind}', field=f"options.{spec.name}")


def _bounded(spec: OptionSpec, value: Any, notices: list[OptionNotice]) -> Any:
    if spec.type not in {"int", "float"} or spec.low <= value <= spec.high:
        return value
    moved = type(value)(min(max(value, spec.low), spec.high))
    notices.append(
        OptionNotice("option_clamped", f'option "{spec.name}" {value:g} was changed to {moved:g}', spec.name)
    )
    return moved


def parse_parameter(name: str, texts: Sequence[str]) -> Any:
    """The typed value of a Modelfile's or the REPL's text(s); lists take all texts, the rest the last one's place.

    Raises InvalidRequest: `unknown parameter 'x'`, `invalid float value [abc]`.
    """
    spec = OPTIONS.get(name)
    if spec is None:
        close = difflib.get_close_matches(name.lower(), OPTIONS, 1, 0.88)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InvalidRequest(f"unknown parameter '{name}'{hint}", field=name)
    if spec.type == "array":
        return list(texts)
    text = texts[0] if texts else ""
    shown = "[" + " ".join(texts) + "]"
    if spec.type == "int":
        if not _INT_TEXT.match(text) or not -(2**63) <= int(text) < 2**63:
            raise InvalidRequest(f"invalid int value {shown}", field=name)
        return int(text)
    if spec.type == "float":
        return _parse_float32(text, shown, name)
    if spec.type == "bool":
        if text not in _TRUE | _FALSE:
            raise InvalidRequest(f"invalid bool value {shown}", field=name)
        return text in _TRUE
    return text


def _parse_float32(text: str, shown: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 3.4028235677973366e38 or _NOT_IN_FLOATS.search(text):
        raise InvalidRequest(f"invalid float value {shown}", field=name)
    return shortest_float32(value)


def shortest_float32(value: float) -> float:
    """The float64 whose shortest text is the shortest text of `value` rounded to 32 bits (0.1 stays 0.1)."""
    rounded = struct.unpack("<f", struct.pack("<f", value))[0]
    for digits in range(1, 10):
        candidate = float(f"{rounded:.{digits}g}")
        if struct.unpack("<f", struct.pack("<f", candidate))[0] == rounded:
            return candidate
    return float(rounded)
