"""Draws what plan.py simulated: `python plot.py FILE.svg < curves.json`, in build/bench-venv, which has matplotlib."""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Waits, decisions and queues; a line per size of cluster."""
    import matplotlib as mpl  # of another environment

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.hashsalt": "corral", "svg.fonttype": "none", "font.size": 9})
    sizes = json.load(sys.stdin)
    figure, (waits, decisions, queue) = pyplot.subplots(1, 3, figsize=(11, 3))
    for (name, curves), color in zip(sizes.items(), ("#c9a66b", "#7a5c3e", "#2f4858", "#b5483a"), strict=True):
        parts = [100 * step / (len(curves["waits"]) - 1) for step in range(len(curves["waits"]))]
        waits.plot(parts, curves["waits"], color=color, label=name)
        waits.plot(parts, curves["heavy"], color=color, linestyle=":")
        decisions.plot(parts, curves["decisions"], color=color)
        queue.plot(*zip(*curves["queue"], strict=True), color=color)
    waits.set_title("wait, s (dotted: the greedy client)", fontsize=9)
    waits.set_xlabel("% of requests wait no longer")
    waits.legend(frameon=False)
    decisions.set_title("a decision, µs", fontsize=9)
    decisions.set_xlabel("% of decisions take no longer")
    decisions.set_yscale("log")
    queue.set_title("waiting requests per node", fontsize=9)
    queue.set_xlabel("s")
    for axis in (waits, decisions, queue):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
