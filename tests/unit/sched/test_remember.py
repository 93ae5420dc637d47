"""The file of loaded models: it comes back as written, and a broken one is no file."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

from corral.sched.remember import Remembered, read_loaded, write_loaded


def test_what_was_written_comes_back_for_ever_included(tmp_path: Path) -> None:
    models = [Remembered("a:latest", 60.0), Remembered("b:latest", math.inf), Remembered("c:latest")]
    path = tmp_path / "new" / "loaded.json"
    write_loaded(path, models)
    write_loaded(path, models)
    assert read_loaded(path) == models
    assert [entry.name for entry in path.parent.iterdir()] == ["loaded.json"]
    assert "Infinity" not in path.read_text()


def test_no_file_is_no_models(tmp_path: Path) -> None:
    assert read_loaded(tmp_path / "none") == []


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', '[{"keep_alive_s": 1}]', '[{"name": 5}]', "[3]"])
def test_a_broken_file_is_no_file_and_is_said(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "loaded.json"
    path.write_text(text)
    with caplog.at_level(logging.WARNING):
        assert read_loaded(path) == []
    assert "cannot be read" in caplog.text
