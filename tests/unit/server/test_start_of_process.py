"""What `serve` sets for the whole process before it binds. The process is real; a taken port ends it there."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

START = """
import sys
from corral.config import Settings
from corral.server.serve import serve

try:
    serve(Settings.from_env({"HOME": sys.argv[1], "CORRAL_HOST": sys.argv[2]}))
except OSError:
    print(sys.getswitchinterval())
"""


def test_the_loop_waits_a_millisecond_for_a_thread_that_computes(tmp_path: Path) -> None:
    """Python's own five would be waited several times a request."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        words = [sys.executable, "-P", "-c", START, str(tmp_path), place]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
    assert float(done.stdout) == 0.001
