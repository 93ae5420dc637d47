"""Draws what peers.py measured: `python plot.py FILE.svg < medians.json`, in build/bench-venv, which has matplotlib."""

from __future__ import annotations

import json
import sys


def main() -> None:
    """A row of bars per model: reading on the left, answering on the right."""
    import matplotlib as mpl  # of another environment

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.hashsalt": "corral", "svg.fonttype": "none", "font.size": 9})
    medians = json.load(sys.stdin)
    figure, axes = pyplot.subplots(len(medians), 2, figsize=(9, 1.9 * len(medians)), squeeze=False)
    for row, (model, speeds) in zip(axes, medians.items(), strict=True):
        for column, (axis, what) in enumerate(zip(row, ("reading", "answering"), strict=True)):
            names = list(reversed(speeds))
            axis.barh(names, [speeds[name][column] for name in names], color="#7a5c3e")
            axis.set_title(f"{model}: {what}, tokens/s", fontsize=9)
            axis.spines[["top", "right"]].set_visible(False)
            if column:
                axis.set_yticks([])
    figure.tight_layout()
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
