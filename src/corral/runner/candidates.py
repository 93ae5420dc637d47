"""Which launch settings are worth trying for a model, and in which order. Pure; used by tune.py.

One thing is varied at a time, from the best so far: the number of threads, threads for prompts apart from those for
answers, flash attention, weights repacked for the kernels, huge pages, the size of a step. So every choice is tried
beside what was best without it, and a handful of trials does what all combinations would take dozens for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from corral.runner.spec import FLASH_TILE, RunnerSpec


@dataclass(frozen=True, slots=True)
class Tuning:
    """Settings for one launch.

    prompt_threads: 0 = as n_threads. step: tokens of an engine step, 0 = as planned. decode_per_s, read_per_s: tokens a
    second as measured; 0 = not measured.
    """

    n_threads: int
    flash_attention: bool | None = None
    decode_per_s: float = 0.0
    prompt_threads: int = 0
    repacks: bool = True
    huge_pages: bool = True
    step: int = 0
    read_per_s: float = 0.0

    def apply(self, spec: RunnerSpec) -> RunnerSpec:
        """The spec with what it leaves open filled in; what a user set stays. The step is the plan's."""
        flash = self.flash_attention if spec.flash_attention is None else spec.flash_attention
        spec = replace(spec, flash_attention=flash, repacks=self.repacks)
        return spec if spec.n_threads else replace(spec, n_threads=self.n_threads, prompt_threads=self.prompt_threads)

    def at_most(self, threads: int) -> Tuning:
        """The same with no more threads than these."""
        return replace(self, n_threads=min(self.n_threads, threads), prompt_threads=min(self.prompt_threads, threads))

    @property
    def most_threads(self) -> int:
        """Of prompts and answers."""
        return max(self.n_threads, self.prompt_threads)

    def __str__(self) -> str:
        parts = [f"{self.n_threads} threads"]
        if self.prompt_threads and self.prompt_threads != self.n_threads:
            parts.append(f"{self.prompt_threads} for prompts")
        if self.flash_attention is False:
            parts.append("flash attention off")
        if not self.repacks:
            parts.append("weights as in the file")
        if not self.huge_pages:
            parts.append("no huge pages")
        if self.step:
            parts.append(f"steps of {self.step}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Open:
    """What may be varied. What a user has set, or the host does not have, is not among it."""

    thread_counts: tuple[int, ...] = ()  # besides the default's
    flash_attention: bool = False
    repacking: bool = False
    huge_pages: bool = False
    step: int = 0  # as planned: a half of it is tried; 0 = not to be varied


class Speed(NamedTuple):
    """What a candidate brings; compared by `tokens_per_s`, of reading and answering as many tokens each."""

    tokens_per_s: float = 0.0
    decode_per_s: float = 0.0
    read_per_s: float = 0.0


def candidates(default: Tuning, varied: Open, speeds: Mapping[Tuning, Speed]) -> Iterator[Tuning]:
    """What to try next, again and again: `speeds` holds what has been tried by then.

    The default first, and last as well where there was anything else; when it fails, nothing else is tried.
    """
    yield default
    if not speeds[default].decode_per_s:
        return
    for count in varied.thread_counts:
        yield replace(default, n_threads=count)
    if apart := _threads_apart(speeds):
        yield apart
    for vary in _variations(varied):
        yield vary(fastest(speeds))
    if len(speeds) > 1:
        yield default


def fastest(speeds: Mapping[Tuning, Speed]) -> Tuning:
    """The best so far."""
    return max(speeds, key=lambda tuning: speeds[tuning].tokens_per_s)


def _variations(varied: Open) -> Iterator[Callable[[Tuning], Tuning]]:
    if varied.flash_attention:
        yield lambda best: replace(best, flash_attention=False)
    if varied.repacking:
        yield lambda best: replace(best, repacks=False)
    if varied.huge_pages:
        yield lambda best: replace(best, huge_pages=False)
    if varied.step >= 2 * FLASH_TILE:
        yield lambda best: replace(best, step=varied.step // 2)


def _threads_apart(speeds: Mapping[Tuning, Speed]) -> Tuning | None:
    """The number of threads that answers fastest, with the one that reads fastest for prompts; None when it is one.

    Answers wait for memory, prompts for the cores: where two threads share a core, the best numbers differ.
    """
    answering = max(speeds, key=lambda tuning: speeds[tuning].decode_per_s)
    reading = max(speeds, key=lambda tuning: speeds[tuning].read_per_s)
    if answering.n_threads == reading.n_threads:
        return None
    return replace(answering, prompt_threads=reading.n_threads)
