"""Whether drafts from the text itself pay for a model: what its runners drafted, and how much of it was right.

Checking a draft of eight tokens takes the time of about four; where fewer are right, drafts slow the answers. An engine
drafts or does not for its whole life, so a model whose drafts do not pay is launched without, and a runner of it that
is idle is loaded anew (server/renewal.py). Counted by client.py, asked by launch.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corral.runner.spec import NGRAM, RunnerSpec

_ENOUGH = 400  # drafted tokens, before they are judged
_LEAST_RIGHT = 0.45
_FORGOTTEN_FROM = 4000  # drafted tokens from which the older half counts for less
_MOST_MODELS = 200


@dataclass(slots=True)
class DraftTally:
    """Tokens that one model's runners drafted, and those of them that the model then said."""

    drafted: int = 0
    accepted: int = 0

    def note(self, timings: Mapping[str, Any]) -> None:
        """The engine's timings of one answer."""
        self.drafted += timings.get("draft_n", 0)
        self.accepted += timings.get("draft_n_accepted", 0)
        if self.drafted >= _FORGOTTEN_FROM:
            self.drafted //= 2
            self.accepted //= 2

    @property
    def pays(self) -> bool:
        """Whether as much was right as checking costs; true until enough is known."""
        return self.drafted < _ENOUGH or self.accepted >= _LEAST_RIGHT * self.drafted


class DraftTallies:
    """The tallies of the models that were launched last."""

    def __init__(self) -> None:
        self._of: OrderedDict[Path, DraftTally] = OrderedDict()

    def of(self, spec: RunnerSpec) -> DraftTally:
        """The tally of a spec's model."""
        tally = self._of.setdefault(spec.model_path, DraftTally())
        self._of.move_to_end(spec.model_path)
        while len(self._of) > _MOST_MODELS:
            self._of.popitem(last=False)
        return tally

    def apply(self, spec: RunnerSpec) -> RunnerSpec:
        """The spec, without drafts from the text where these do not pay."""
        if spec.speculation != NGRAM or self.of(spec).pays:
            return spec
        return replace(spec, speculation="", draft_num_predict=0)
