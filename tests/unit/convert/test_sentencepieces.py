"""The blank before a text, the map of characters and the frame: from tokenizer.json, else from tokenizer.model."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.convert.sentencepieces import adds_space, charsmap, frame

REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}


@pytest.mark.parametrize(
    ("tokenizer", "blank"),
    [
        (
            {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, REPLACE]}},
            True,
        ),
        ({"normalizer": REPLACE}, False),
        ({"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "always"}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "never"}}, False),
        ({"pre_tokenizer": {"type": "Metaspace", "add_prefix_space": False}}, False),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Metaspace"}]}}, True),
    ],
)
def test_tokenizer_json_tells_the_blank(tokenizer: dict[str, Any], blank: bool) -> None:
    assert adds_space(tokenizer) is blank


def spec(flag: int | None) -> bytes:
    """A message with a normalizer_spec, and one field of each other kind before it."""
    inner = b"\x12\x02ab" + (b"" if flag is None else b"\x18" + bytes([flag]))
    return b"\x0a\x03abc" + b"\x20\x96\x01" + b"\x1a" + bytes([len(inner)]) + inner


@pytest.mark.parametrize(("flag", "blank"), [(0, False), (1, True), (None, True)])
def test_tokenizer_model_tells_the_blank_where_there_is_no_json(flag: int | None, blank: bool, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(spec(flag))
    assert adds_space({}, tmp_path / "m") is blank
    assert adds_space({"normalizer": REPLACE}, tmp_path / "m") is False  # the JSON counts where both are there


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_no_bytes_of_a_tokenizer_model_raise_or_hang(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m").write_bytes(data)
    assert adds_space({}, tmp_path / "m") in (True, False)


@pytest.mark.parametrize(
    ("processor", "both"),
    [
        ({"type": "RobertaProcessing"}, {"bos": True, "eos": True}),
        (
            {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]},
            {"bos": True, "eos": False},
        ),
        ({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]}, {"bos": False, "eos": False}),
        ({"type": "ByteLevel"}, {}),
        (None, {}),
        ([], {}),
    ],
)
def test_the_post_processor_tells_the_frame(processor: Any, both: dict[str, bool]) -> None:
    assert frame({"post_processor": processor}) == both


def test_the_map_of_characters_is_found_in_a_sequence_too() -> None:
    part = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\x01\x02").decode()}
    assert charsmap({"normalizer": part}) == b"\x01\x02"
    assert charsmap({"normalizer": {"type": "Sequence", "normalizers": [REPLACE, part]}}) == b"\x01\x02"
    assert charsmap({"normalizer": REPLACE}) == b""
