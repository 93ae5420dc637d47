"""llama4, and llama3 pulled before its pre-tokenizer had a name.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_llama4, handle_llama3_metadata, 2026-08. The layout calls
llama4's pre-tokenizer default; it has one of its own, as its makers' converter says.
"""

from __future__ import annotations

from itertools import islice

from corral.gguf import GGUFArray, GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family, has_tensor
from corral.translate.view import View
from corral.translate.vocabulary import lacks_pre, set_pre

_EOT, _EOT_ID = "<|eot_id|>", 128_009  # ends a turn in every Llama 3
_END_OF_TEXT_ID = 128_001


def _is_llama4(header: GGUFHeader) -> bool:
    return lacks_pre(header) or has_tensor(header, "v.", "mm.")


def _llama4(view: View) -> None:
    if lacks_pre(view.header):
        set_pre(view, "llama4")
    view.text_only()


def _is_old_llama3(header: GGUFHeader) -> bool:
    if not lacks_pre(header) or header.metadata.get("tokenizer.ggml.model") != "gpt2":
        return False
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, GGUFArray) or tokens.type is not ValueType.STRING or tokens.length <= _EOT_ID:
        return False
    return bool(next(islice(tokens.iterate(), _EOT_ID, None)) == _EOT)


def _old_llama3(view: View) -> None:
    set_pre(view, "llama-bpe")
    for key in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"):
        if view.header.metadata.get(key, _END_OF_TEXT_ID) == _END_OF_TEXT_ID:
            view.put(key, ValueType.UINT32, _EOT_ID)


LLAMA4 = Family("llama4", ("llama4",), _is_llama4, _llama4)
OLD_LLAMA3 = Family("llama3", ("llama",), _is_old_llama3, _old_llama3)
