"""How a byte-level BPE cuts text into words, told from tokenizer.json as one of llama.cpp's names for it."""

from __future__ import annotations

import hashlib
from typing import Any

# sha256 of the Split regexes in order. Sources: ollama convert/tokenizer.go, 2026-08; llama.cpp llama-vocab.cpp, b11549
_BY_REGEX = {
    "d98f9631be1e9607a9848c26c1f9eac1aa9fc21ac6ba82a2fc0741af9780a48f": "llama-bpe",
    "03df5c5863ad70781dcfdef491ead25140f895fe8010964be0daefe27be32b02": "deepseek-llm",
    "21cde974d587f0d54dc8d56b183cc1e6239600172035c68fbd6d4b9f8da0576e": "deepseek-coder",
    "1ff7f41064896984db5d1bb6ff64fa4bc29007d08c1b439e505b7392777a319e": "qwen2",
    "00431aed57e696b747435f734d1e3b9b1bfd931a121fb5cac7129e97c181e9ba": "qwen35",
    "2d1b8dc11e89af71459b36004f698ab3693f59fd84f63e8ec2b49564ab857420": "gpt-4o",
    "1d64a9a8eaf9f1bd80331984d81fdd514e7feafe8df83a525dd31472f275699a": "tekken",
}


def pre_tokenizer(spec: Any) -> tuple[str, bool]:
    """llama.cpp's name of a pre-tokenizer, and whether it was recognised."""
    parts = _parts(spec)
    kinds = [part.get("type") for part in parts]
    digest = hashlib.sha256()
    for part in parts:
        pattern = part.get("pattern")
        if part.get("type") == "Split" and isinstance(pattern, dict):
            digest.update(str(pattern.get("Regex") or "").encode())
    if "Split" in kinds:
        name = _BY_REGEX.get(digest.hexdigest())
        return name or "default", name is not None
    if kinds[:1] == ["Digits"] and "ByteLevel" in kinds:
        return "smollm", True
    return ("gpt-2" if kinds == ["ByteLevel"] else "default"), True


def _parts(spec: Any) -> list[dict[str, Any]]:
    if not isinstance(spec, dict):
        return [{}]
    inner = spec.get("pretokenizers")
    return [part for part in inner if isinstance(part, dict)] if isinstance(inner, list) else [spec]
