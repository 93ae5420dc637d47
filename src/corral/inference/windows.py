"""Which windows grew: what a prompt once needed, so that the model's next load has it at once. Kept in Shared."""

from __future__ import annotations

_MOST = 64  # models


class Windows:
    """Tokens by the weights' path, of the newest models."""

    def __init__(self) -> None:
        self._tokens: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Windows({self._tokens})"

    def remember(self, key: str, tokens: int) -> None:
        """A prompt needed so many; the larger one counts."""
        self._tokens[key] = max(tokens, self._tokens.pop(key, 0))
        while len(self._tokens) > _MOST:
            self._tokens.pop(next(iter(self._tokens)))

    def of(self, key: str) -> int:
        """What is known of a model; 0 = nothing."""
        return self._tokens.get(key, 0)
