"""`make simulate`: clusters of 10, 100 and 1,000 nodes that exist in numbers only, run by the real policy.

Writes the table of docs/cluster-plan.md and, with matplotlib of build/bench-venv, the plot beside it.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.sim.cluster import Outcome, Shape, Simulation

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cluster-plan.md"
PLOT = ROOT / "docs" / "pictures" / "cluster-plan.svg"
PYTHON = ROOT / "build" / "bench-venv" / "bin" / "python"
BEGIN, END = "<!-- made by make simulate -->", "<!-- end -->"
SHAPES = (
    Shape(nodes=10, clients=1_000, models=10, seconds=600.0, lost=0.1),
    Shape(nodes=100, clients=10_000, models=50, seconds=300.0),
    Shape(nodes=1000, clients=100_000, models=200, seconds=240.0),
    Shape(nodes=100, clients=10_000, models=50, seconds=120.0, load=1.2, heavy=0.3),  # more than can be served
)
HEADS = (
    "nodes",
    "clients",
    "load",
    "of one greedy client",
    "requests",
    "wait in s: half, 90 %, 99 %",
    "the greedy client: half, 99 %",
    "loads",
    "of these one more",
    "copies",
    "moves",
    "answers lost with a node",
    "µs for a decision: half, 99 %, 99.9 %",
    "nodes looked at, 99 %",
)
_STEPS = 200  # points of a curve


def share(values: Sequence[float], part: float) -> float:
    """The value that this part of all is at most; 0 of none."""
    ordered = sorted(values)
    return ordered[int(part * (len(ordered) - 1))] if ordered else 0.0


def row(shape: Shape, outcome: Outcome) -> str:
    """A line of the table."""
    asked = len(outcome.waits) + len(outcome.heavy_waits)
    waits = " / ".join(f"{share(outcome.waits, part):.1f}" for part in (0.5, 0.9, 0.99))
    heavy = f"{share(outcome.heavy_waits, 0.5):.1f} / {share(outcome.heavy_waits, 0.99):.1f}"
    counts = outcome.counts
    moved = sum(count for name, count in counts.items() if name.startswith("stops"))
    micros = " / ".join(f"{share(outcome.decision_s, part) * 1e6:.0f}" for part in (0.5, 0.99, 0.999))
    cells = (
        f"{shape.nodes:,}",
        f"{shape.clients:,}",
        f"{shape.load:.0%}",
        f"{shape.heavy:.0%}",
        f"{asked:,}",
        waits,
        heavy,
        f"{counts['loads']:,}",
        f"{counts['replicas']:,}",
        f"{counts['copies']:,}",
        f"{moved:,}",
        f"{counts['errors: NodeGone']:,}",
        micros,
        f"{share(outcome.looked_at, 0.99):.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run all sizes, write the page, draw the plot where matplotlib is."""
    rows, drawn = [], {}
    for shape in SHAPES:
        simulation = Simulation(shape)
        gc.freeze()  # as a server does: what lives on is not looked at again
        outcome = simulation.run()
        gc.unfreeze()
        rows.append(row(shape, outcome))
        print(rows[-1], file=sys.stderr)
        drawn[f"{shape.nodes:,} nodes, {shape.load:.0%}"] = {
            "waits": _curve(outcome.waits),
            "heavy": _curve(outcome.heavy_waits),
            "decisions": [seconds * 1e6 for seconds in _curve(outcome.decision_s)],
            "queue": [(when, count / shape.nodes) for when, count in outcome.queue],
        }
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [BEGIN, "", f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS), *rows, "", END]
    PAGE.write_text(before + "\n".join(lines) + after)
    if PYTHON.exists():
        plot = Path(__file__).with_name("plot.py")
        subprocess.run([PYTHON, plot, PLOT], input=json.dumps(drawn), text=True, check=True)


def _curve(values: Sequence[float]) -> list[float]:
    """So many values, each at most by an equal part of all."""
    ordered = sorted(values)
    last = max(0, len(ordered) - 1)
    return [ordered[last * step // _STEPS] for step in range(_STEPS + 1)] if ordered else []


if __name__ == "__main__":
    main()
