"""The REPL's history file: one line an entry, newest last, at most 100, mode 0600, rewritten whole after each line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from corral.store.files import make_directory

LIMIT = 100


class History:
    """Lines typed earlier. `saving` False keeps new ones out of the file, not out of this session."""

    def __init__(self, path: Path, *, saving: bool = True) -> None:
        self._path = path
        self.saving = saving
        self.lines = _read(path)

    def add(self, entry: str) -> None:
        """Remember an entry, each of its lines by itself, and rewrite the file; blank lines are dropped.

        An unwritable file costs the history, not the conversation.
        """
        fresh = [line for line in entry.splitlines() if line.strip()]
        if not fresh:
            return
        self.lines = [*self.lines, *fresh][-LIMIT:]
        if self.saving:
            try:
                self._write()
            except OSError:
                self.saving = False

    def _write(self) -> None:
        make_directory(self._path.parent)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".history-")  # made with mode 0600
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as stream:
                stream.writelines(f"{line}\n" for line in self.lines)
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _read(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in text.split("\n") if line.strip()][-LIMIT:]
