"""`scripts/setup`, which every `./corral` passes by."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_what_is_installed_is_found_without_looking_for_a_python() -> None:
    """Version managers put shims of a tenth of a second before each name."""
    environ = {"PATH": "/usr/bin:/bin", "CORRAL_PYTHON": "/nonexistent/python"}
    done = subprocess.run([ROOT / "scripts" / "setup", "dev"], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
