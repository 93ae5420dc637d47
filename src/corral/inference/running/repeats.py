"""The repeat guard: a model that says one piece over and over is stopped. Pure; called for every piece of an answer.

Source of rule and number: ollama llm/llama_server.go, 2026-08, which ends the stream silently; ours says so.
"""

from __future__ import annotations

from corral.core import Notice

MOST_REPEATS = 30


class RepeatGuard:
    """Counts how often the same piece, blanks aside, came in a row."""

    def __init__(self) -> None:
        self._last = ""
        self._count = 0

    def trips(self, piece: str) -> bool:
        """Whether this piece is one too many."""
        if not piece:
            return False
        core = piece.strip()
        if core == self._last:
            self._count += 1
            return self._count > MOST_REPEATS
        self._last, self._count = core, 0
        return False

    def notice(self) -> Notice:
        """What the caller is told."""
        return Notice(
            "repetition_stopped",
            f"the model repeated {self._last[:40]!r} over {MOST_REPEATS} times and was stopped",
            {"piece": self._last[:40], "repeats": self._count},
        )
