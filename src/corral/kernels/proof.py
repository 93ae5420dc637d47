"""Proving a pack: a tiny model answers with the engine's own kernels and with the pack's, each in a child of its own.

Kernels of another width round otherwise, so answers are compared by margin: the log probabilities of every token until
a step where the first two lie so near that either may win.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from corral.errors import KernelBuildFailed
from corral.runner.environment import runner_environment
from corral.runner.kernels import PROVED, REFUSED, Pack

TOLERANCE = 0.1  # of a log probability; measured between AVX2 and AVX-512 kernels: below 0.02
_DEADLINE_S = 120
_LEAST_STEPS = 4

Step = tuple[int, float, float]  # token, its log probability, the runner-up's


def prove(pack: Pack) -> tuple[str, str]:
    """The pack's state, and why when it is refused. Raises KernelBuildFailed when the engine itself cannot answer."""
    from corral.kernels.tinymodel import write_tiny_model  # brings the gguf library, which an idle server does without

    with tempfile.TemporaryDirectory(prefix="corral-proof-") as place:
        model = Path(place) / "tiny.gguf"
        write_tiny_model(model)
        wanted, why = _answers(model)
        if wanted is None:
            raise KernelBuildFailed(f"the engine's own kernels give no answer to compare with: {why}")
        found, why = _answers(model, pack.folder)
    if found is None:
        return REFUSED, why
    difference = compare(wanted, found)
    return (REFUSED, difference) if difference else (PROVED, "")


def compare(wanted: list[Step], found: list[Step]) -> str:
    """What is different, empty when nothing is."""
    for number, (own, other) in enumerate(zip(wanted, found, strict=False)):
        is_tie = own[1] - own[2] < 2 * TOLERANCE
        if own[0] != other[0]:
            if is_tie and number >= _LEAST_STEPS:
                return ""
            return f"token {number} is {other[0]} instead of {own[0]}"
        if abs(own[1] - other[1]) > TOLERANCE:
            return f"the log probability of token {number} is {other[1]:.3f} instead of {own[1]:.3f}"
    return "" if len(found) == len(wanted) else f"{len(found)} tokens instead of {len(wanted)}"


def _answers(model: Path, pack: Path | None = None) -> tuple[list[Step] | None, str]:
    words = [sys.executable, "-P", "-m", "corral.runner.kernelproof", str(model), *([str(pack)] if pack else [])]
    try:
        done = subprocess.run(
            words,
            cwd="/",
            env=runner_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_DEADLINE_S} s"
    if done.returncode < 0:
        return None, f"crashed with {signal.Signals(-done.returncode).name}"
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return None, lines[-1] if lines else f"exit status {done.returncode}"
    try:
        return [(int(step[0]), float(step[1]), float(step[2])) for step in json.loads(done.stdout)], ""
    except (ValueError, TypeError, IndexError):
        return None, "the answer cannot be read"
