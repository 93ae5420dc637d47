"""How fast models read prompts on this host, by the engine's own clock; what the size of its steps is made from.

Only prompts count that were read by one call, with nobody else on the runner, over several steps, and what trials of
launch settings found (tune.py). Of the newest of
each model the median stands, so that one read beside a busy host's other work changes nothing. A model that has read
nothing yet is taken to be as fast as the others are, by the work that a token takes. Noted by client.py, asked for
plans through launch.py, which keeps it in `<home>/reading.json` from one server to the next.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from corral.runner.spec import RunnerSpec
from corral.store.files import make_directory

_LOG = logging.getLogger(__name__)
_STEPS = 3  # of the engine, that a prompt must have taken
_LEAST_TOKENS = 96
_NEWEST = 5  # prompts of a model
_MOST_MODELS = 200


class Reading(NamedTuple):
    """tokens_per_s: of this model; flops: of this host, by what other models did; step: the largest that reads faster
    than smaller ones, where that was measured. 0 = nothing is known.
    """

    tokens_per_s: float = 0.0
    flops: float = 0.0
    step: int = 0


NOTHING_READ = Reading()


@dataclass(slots=True)
class ReadingTally:
    """One model's newest prompts, as tokens per second.

    work_per_token: operations, about, that reading a token takes. step: tokens of one engine step, as launched last.
    most: tokens of a step that a measurement found to be enough; 0 = none has.
    """

    work_per_token: float = 0.0
    step: int = 0
    most: int = 0
    newest: deque[float] = field(default_factory=lambda: deque(maxlen=_NEWEST))

    def note(self, timings: Mapping[str, Any]) -> None:
        """The engine's timings of an answer, for whose prompt nobody else was served."""
        tokens, took_ms = timings.get("prompt_n", 0), timings.get("prompt_ms", 0.0)
        if self.step and took_ms > 0 and tokens >= max(_LEAST_TOKENS, _STEPS * self.step):
            self.newest.append(tokens / took_ms * 1000)

    @property
    def tokens_per_s(self) -> float:
        """The median; 0 = nothing is known."""
        return statistics.median(self.newest) if self.newest else 0.0


class ReadingSpeeds:
    """The tallies of the models that were launched last, at `path`; a file that cannot be read is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._host = ""
        self._of: OrderedDict[str, ReadingTally] = OrderedDict()

    def begin(self, host: str) -> None:
        """From now on it is about this host: a name for cores, engine and kernels. Blocking."""
        if host != self._host:
            self._host = host
            self._of.clear()
            self._read()

    def of(self, spec: RunnerSpec) -> ReadingTally:
        """The tally of a spec's model, which is launched now; on a device it is one that nobody asks."""
        if not spec.paced:
            return ReadingTally()
        tally = self._of.setdefault(_name(spec.model_path), ReadingTally())
        self._of.move_to_end(_name(spec.model_path))
        tally.work_per_token, tally.step = spec.work_per_token, spec.n_batch
        while len(self._of) > _MOST_MODELS:
            self._of.popitem(last=False)
        return tally

    def measured(self, spec: RunnerSpec, tokens_per_s: float, step: int) -> None:
        """What trials of launch settings found for a model; step: 0 = the planned one was as good as any."""
        tally = self.of(spec)
        tally.most = step
        if tokens_per_s > 0:
            tally.newest.append(tokens_per_s)

    def known(self, model_path: Path) -> Reading:
        """What a plan for this model can go by."""
        own = self._of.get(_name(model_path), ReadingTally())
        others = [tally.tokens_per_s * tally.work_per_token for tally in self._of.values() if tally.newest]
        return Reading(own.tokens_per_s, statistics.median(others) if others else 0.0, own.most)

    def save(self) -> None:
        """Write what is known. Blocking; what fails is logged."""
        rows = {
            name: {
                "tokens_per_s": round(tally.tokens_per_s, 2),
                "work_per_token": tally.work_per_token,
                "most": tally.most,
            }
            for name, tally in self._of.items()
            if tally.newest
        }
        if not rows:
            return
        part = self._path.with_suffix(".part")
        try:
            make_directory(self._path.parent)
            part.write_text(json.dumps({"host": self._host, "models": rows}, indent=1))
            part.replace(self._path)
        except OSError as error:
            _LOG.warning("how fast models read is not kept: %s", error)

    def _read(self) -> None:
        try:
            found = json.loads(self._path.read_text())
            if found["host"] != self._host:
                return
            for name, row in found["models"].items():
                tally = ReadingTally(float(row["work_per_token"]), most=int(row.get("most", 0)))
                tally.newest.append(float(row["tokens_per_s"]))
                self._of[str(name)] = tally
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            _LOG.warning("%s is not usable, and begun anew: %s", self._path.name, error)
            self._of.clear()


def _name(model_path: Path) -> str:
    """Blobs are named by their digests, so the name says which model it is, wherever the store is."""
    return model_path.name
