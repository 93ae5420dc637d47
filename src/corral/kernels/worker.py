"""A build as a child of a server: `python -m corral.kernels.worker HOME`, in a process group of its own.

Its output is what `build` says, then how it ended. When its input ends, the server is gone or wants it to stop: the
whole group, compilers included, is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from corral.errors import KernelBuildFailed
from corral.kernels.build import build
from corral.runner.kernels import PROVED

FAILED = 1


def main() -> int:
    """The exit status: 0 when there is a pack that is used."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        pack = build(Path(sys.argv[1]), _say)
    except (KernelBuildFailed, OSError) as error:
        _say(str(error))
        return FAILED
    if pack.state != PROVED:
        _say(f"the kernels that were made are not used: {pack.why}")
        return FAILED
    _say(f"kernels for {', '.join(pack.features)} are used from the next load on")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
