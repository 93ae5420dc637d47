"""The lines of a batch's input: found in one pass, whatever is in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral.api.batches import LineError
from corral.server.openai.batches import lines as module
from corral.server.openai.batches.lines import Line, read_input, read_line

CHAT = "/v1/chat/completions"


def written(path: Path, *rows: bytes) -> Path:
    path.write_bytes(b"".join(rows))
    return path


def row(custom_id: str, **more: object) -> bytes:
    line = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {}, **more}
    return json.dumps(line).encode() + b"\n"


def test_blank_lines_count_as_lines_but_are_not_asked(tmp_path: Path) -> None:
    source = read_input(written(tmp_path / "in", b"\n", row("a"), b" \r\n", row("b")[:-1]), CHAT)
    assert list(source.numbers) == [2, 4]
    assert [read_line(source, index) for index in (0, 1)] == [Line("a", {}), Line("b", {})]


def test_a_line_that_is_too_long_is_one_error_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 200)
    source = read_input(written(tmp_path / "in", row("a", body={"x": "y" * 1000}), row("b")), CHAT)
    found = read_line(source, 0)
    assert isinstance(found, tuple)
    assert (found[1].code, found[1].line) == ("invalid_line", 1)
    assert read_line(source, 1) == Line("b", {})


def test_more_lines_than_allowed_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINES", 2)
    assert not read_input(written(tmp_path / "two", row("a"), row("b"), b"\n"), CHAT).too_many
    assert read_input(written(tmp_path / "three", row("a"), row("b"), row("c")), CHAT).too_many


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"[1]\n", "invalid_json_line"),
        (b"null\n", "invalid_line"),
        (b"\xff\xfe\n", "invalid_json_line"),
        (b"[" * 100_000 + b"\n", "invalid_json_line"),
        (row("x" * 513), "invalid_line"),
        (row("a", method="GET"), "invalid_line"),
        (row("a", url="http://elsewhere/"), "mismatched_url"),
        (row("a", body=[]), "invalid_body"),
        (row("a", body={"stream": True}), "invalid_body"),
    ],
)
def test_every_wrong_line_is_an_error_with_its_number(tmp_path: Path, raw: bytes, code: str) -> None:
    source = read_input(written(tmp_path / "in", row("first"), raw), CHAT)
    found = read_line(source, 1)
    assert isinstance(found, tuple)
    assert isinstance(found[1], LineError)
    assert (found[1].code, found[1].line) == (code, 2)


def test_the_first_of_several_with_one_id_is_asked(tmp_path: Path) -> None:
    source = read_input(written(tmp_path / "in", row("a"), row("b"), row("a"), row("a")), CHAT)
    assert source.repeated == {3: 1, 4: 1}
    again = read_line(source, 2)
    assert isinstance(again, tuple)
    assert again[0] == "a"
    assert again[1].code == "duplicate_custom_id"
