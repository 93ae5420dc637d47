"""What the real Ollama answered, replayed against a real server (../shared/golden)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.conftest import start_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

# Steps that stay red, with the reason. Every other step of every group passes; a fall below is a lost step.
KNOWN_RED: dict[str, str] = {}


def test_every_golden_answer_is_given(tmp_path: Path, models_dir: Path, shared: Path) -> None:
    server = start_server(tmp_path, env={"OLLAMA_NO_CLOUD": "1"})
    try:
        command = [sys.executable, str(shared / "golden" / "replay.py"), "--base-url", server.url]
        command += ["--setup", str(models_dir), "--store", str(server.models)]
        replay = subprocess.run(command, capture_output=True, text=True, timeout=1100, check=False)
    finally:
        server.stop()
    print(replay.stdout)
    red = re.findall(r"^✗ (\S+)", replay.stdout, re.MULTILINE)
    assert [step for step in red if step not in KNOWN_RED] == [], replay.stdout[-8000:] + replay.stderr[-2000:]
    assert re.search(r"^golden: \d+ of \d+ steps pass$", replay.stdout, re.MULTILINE), replay.stdout + replay.stderr
