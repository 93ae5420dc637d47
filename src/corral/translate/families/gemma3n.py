"""gemma3n, whose vision and audio nobody runs.

Source: ollama llama/compat/llama-ollama-compat.cpp handle_gemma3n, 2026-08.
The files have two vocabularies, one with multimodal tokens for `token_embd`, one without for `per_layer_token_embd`,
and a tokenizer that calls itself BPE.
"""

from __future__ import annotations

import re

from corral.gguf import GGUFHeader
from corral.gguf.types import ValueType
from corral.translate.family import Family, has_tensor
from corral.translate.recipes import cut
from corral.translate.view import View
from corral.translate.vocabulary import (
    adds_blank,
    cut_vocabulary,
    forbid_blank,
    set_token_types,
    token_types,
    vocabulary,
)

_NORMAL, _BYTE = 1, 6  # types of tokens
_BYTE_TOKEN = re.compile(r"<0x..>", re.DOTALL)
_UNUSED = "<unused"
_EMBEDDING, _PER_LAYER = "token_embd.weight", "per_layer_token_embd.weight"


def _recognizes(header: GGUFHeader) -> bool:
    rows = {tensor.shape[-1] for tensor in header.tensors if tensor.name in (_EMBEDDING, _PER_LAYER) and tensor.shape}
    wrong_tokenizer = header.metadata.get("tokenizer.ggml.model") != "llama" or adds_blank(header)
    return len(rows) > 1 or wrong_tokenizer or has_tensor(header, "v.", "a.", "mm.")


def _text(view: View) -> None:
    rows = (view.need(_PER_LAYER).shape or (0,))[-1]
    view.add(cut(view.need(_EMBEDDING), rows))
    cut_vocabulary(view, rows)
    view.put("tokenizer.ggml.model", ValueType.STRING, "llama")
    forbid_blank(view)
    types = token_types(view)[:rows]
    if types:
        set_token_types(view, [_type(*pair) for pair in zip(types, vocabulary(view), strict=False)])
    view.rename({"gemma3n.rope.freq_base_local": "gemma3n.rope.freq_base_swa"})
    for part in ("key", "value"):
        view.copy("gemma3n.head_dim", f"gemma3n.attention.{part}_length")
    view.text_only()


def _type(given: int, token: str) -> int:
    if _BYTE_TOKEN.fullmatch(token):
        return _BYTE
    return _NORMAL if token.startswith(_UNUSED) else given


FAMILY = Family("gemma3n", ("gemma3n",), _recognizes, _text)
