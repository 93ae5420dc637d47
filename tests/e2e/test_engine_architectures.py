"""The list of architectures is the engine's: it is asked about each name, by a file that holds nothing but the name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
from tests.fakes.ggufs import make_gguf

from corral.gguf.architectures import ENGINE_ARCHITECTURES

pytestmark = pytest.mark.e2e

# Loads every file named on its command line in turn; the engine's log says why each fails. A thread of the engine's
# writes it, so it is waited for before the next one.
_ASK = """
import os, sys, xllamacpp
from pathlib import Path
from corral.runner.child import _log_flusher
flush = _log_flusher(xllamacpp)
for path in sys.argv[2:]:
    Path(sys.argv[1]).unlink(missing_ok=True)
    params = xllamacpp.CommonParams()
    params.hostnames, params.model.path, params.n_ctx = [sys.argv[1]], path, 64
    os.write(2, f"\\n<asked {Path(path).stem}>\\n".encode())
    try:
        xllamacpp.Server(params)
    except RuntimeError:
        pass
    flush()
"""
_ASKED = re.compile(r"<asked (\S+)>\n")
_REFUSED = re.compile(r"(?:unknown|unsupported) model architecture|CLIP cannot be used as main model")


def loaded_by_engine(names: list[str], folder: Path) -> set[str]:
    """Those of the names that the engine looks into: it misses something in the file, not the architecture."""
    files = [str(make_gguf(folder / f"{name}.gguf", name, {}, {"w": (2, 2)})) for name in names]
    command = [sys.executable, "-c", _ASK, str(folder / "s.sock"), *files]
    log = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=True).stderr
    parts = _ASKED.split(log)[1:]
    answers = dict(zip(parts[::2], parts[1::2], strict=True))
    assert answers.keys() == set(names)
    assert all("error loading model" in answer for answer in answers.values())
    return {name for name, answer in answers.items() if not _REFUSED.search(answer)}


def test_the_list_of_architectures_is_the_engines(tmp_path: Path) -> None:
    strangers = {"mllama", "solar", "gptoss", "qwen25vl", "olmo3", "glm4moelite", "clip", "gptj"}
    names = sorted(ENGINE_ARCHITECTURES | strangers | set(gguf.MODEL_ARCH_NAMES.values()))
    assert loaded_by_engine(names, tmp_path) == ENGINE_ARCHITECTURES
