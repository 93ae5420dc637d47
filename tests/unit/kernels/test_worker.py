"""A build for a server ends with the server: nothing that it started is left."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def group_of(leader: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if entry.name.isdecimal() and int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def test_the_whole_group_goes_when_the_input_ends(tmp_path: Path) -> None:
    slow = "import subprocess, sys; import corral.kernels.build as b; b.fetch_sources = lambda *_: subprocess.run("
    slow += "['sleep', '600']); sys.argv[1:] = [sys.argv[1]]; import corral.kernels.worker as w; w.main()"
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", slow, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert b"fetching" in child.stdout.readline()
    deadline = time.monotonic() + 60
    while len(group_of(child.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(group_of(child.pid)) == 2
    child.stdin.close()
    child.wait(timeout=60)
    while group_of(child.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert group_of(child.pid) == []
    child.stdout.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"kernels"}
