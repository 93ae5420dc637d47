"""The REPL's commands: a table from word to method, each with Ollama's words.

Ollama takes `/listx` for `/list`; here a command is its whole word. /quit, /model, and files for /save and /load are
the guide's; /regenerate and /edit are the conversation's own (`chat.py`). An argument of /save and /load is a file
when it ends in `.json` or is written as a path (`./x`, `../x`, `/x`, `~/x`); everything else is a model's name, as in
Ollama.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from corral.cli import help_texts
from corral.cli.api import ServerError
from corral.cli.context import Context
from corral.cli.history import History
from corral.cli.loading import load
from corral.cli.models import models_table
from corral.cli.session import Session
from corral.cli.slash_set import SetCommands
from corral.cli.slash_show import show

_BLOCK = '"""'
_ROLES = frozenset(["system", "user", "assistant", "tool"])
OF_THE_CHAT = ("/regenerate", "/edit")
GOODBYES = ("/bye", "/exit", "/quit")
Action = Callable[[list[str]], None]


class SlashCommands:
    """Runs commands on a session."""

    def __init__(self, context: Context, session: Session, history: History) -> None:
        self._api = context.api
        self._context = context
        self._console = context.console
        self._session = session
        self._set = SetCommands(context.api, context.console, session, history)
        self.table: dict[str, Action] = {
            "/set": self._change,
            "/system": self._set.system,
            "/show": self._show,
            "/load": self._load,
            "/model": self._model,
            "/save": self._save,
            "/save!": self._save_over,
            "/list": self._list,
            "/clear": self._clear,
            "/help": self._help,
            "/?": self._help,
        }

    @property
    def names(self) -> list[str]:
        """All commands of a conversation."""
        return [*self.table, *OF_THE_CHAT, *GOODBYES]

    @property
    def settings(self) -> list[str]:
        """What `/set` sets."""
        return list(self._set.table)

    def run(self, line: str) -> bool:
        """Run a line that begins with a slash; False when it says goodbye. Raises CorralError as the server fails."""
        name, *words = line.split()
        if name in GOODBYES:
            return False
        action = self.table.get(name)
        if action is None:
            self._unknown(name, self.names)
        else:
            action(words)
        return True

    def opens_block(self, line: str) -> str | None:
        """The first line of a `/set system \"\"\"` or `/system \"\"\"` block, None when the line is no such command."""
        words = line.split()
        rest = words[1:] if words[0] == "/system" else words[2:] if words[:2] == ["/set", "system"] else []
        return " ".join(rest).removeprefix(_BLOCK) if rest and rest[0].startswith(_BLOCK) else None

    def set_system(self, text: str) -> None:
        """Set the session's system message."""
        self._set.set_system(text)

    def _unknown(self, text: str, names: Sequence[str] = ()) -> None:
        close = difflib.get_close_matches(text, names, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        self._console.print(f"Unknown command '{text}'. Type /? for help{hint}")

    def _change(self, words: list[str]) -> None:
        if not self._set.run(words):
            self._unknown(f"/set {words[0]}", [f"/set {name}" for name in self._set.table])

    def _show(self, words: list[str]) -> None:
        if not show(self._api, self._console, self._session, words):
            self._unknown(f"/show {words[0]}")

    def _list(self, words: list[str]) -> None:
        self._console.print(models_table(self._api, words[0] if words else "", datetime.now(UTC)), end="")

    def _clear(self, _: list[str]) -> None:
        self._session.clear()
        self._console.print("Cleared session context")

    def _help(self, words: list[str]) -> None:
        topic = words[0].removeprefix("/") if words else ""
        text = help_texts.TOPICS.get(topic, "")
        if not topic:
            text = help_texts.main(multimodal=self._session.multimodal)
        if text:
            self._console.note(text)

    # /load, /model, /save

    def _load(self, words: list[str]) -> None:
        if len(words) != 1:
            self._console.print("Usage:\n  /load <modelname>")
        elif _is_file(words[0]):
            self._load_file(words[0])
        else:
            self._console.print(f"Loading model '{words[0]}'")
            self._switch(words[0], keep_messages=False)

    def _model(self, words: list[str]) -> None:
        if len(words) != 1:
            self._console.print("Usage:\n  /model <modelname>")
        elif self._switch(words[0], keep_messages=True):
            self._console.print(f"Switched to model: {words[0]}")

    def _switch(self, name: str, *, keep_messages: bool) -> bool:
        """Change the session's model; nothing changes when it does not exist or cannot think as asked."""
        session = self._session
        before = (session.model, session.think, session.multimodal, session.parent_model, session.loaded_messages)
        try:
            shown = self._api.show_model(name)
            session.model = name
            session.describe(shown)
            load(self._context, session)
        except ServerError as error:
            session.model, session.think, session.multimodal, session.parent_model, session.loaded_messages = before
            if error.status == 404:
                self._console.print(f"Couldn't find model '{name}'")
            elif "does not support thinking" in error.text:
                self._console.print(f"error: {error}")
            else:
                raise
            return False
        if not keep_messages:
            session.clear()
        return True

    def _load_file(self, name: str) -> None:
        try:
            messages = json.loads(Path(name).expanduser().read_text(encoding="utf-8"))
            self._session.messages = _checked(messages)
        except (OSError, ValueError) as error:
            self._console.print(f"error: couldn't load '{name}': {_why(error)}")
            return
        self._console.print(f"History loaded from: {name}")

    def _save(self, words: list[str]) -> None:
        if len(words) != 1:
            self._console.print("Usage:\n  /save <modelname>")
        elif _is_file(words[0]):
            self._save_file(words[0])
        elif self._is_stored(words[0]):
            self._console.print(f"error: a model '{words[0]}' is here already; /save! {words[0]} replaces it")
        else:
            self._save_model(words[0])

    def _save_over(self, words: list[str]) -> None:
        if len(words) != 1 or _is_file(words[0]):
            self._console.print("Usage:\n  /save! <modelname>")
        else:
            self._save_model(words[0])

    def _is_stored(self, name: str) -> bool:
        try:
            self._api.show_model(name)
        except ServerError:
            return False  # also a name that cannot be: /api/create says why
        return True

    def _save_file(self, name: str) -> None:
        text = json.dumps(self._session.messages, indent=2, ensure_ascii=False)
        try:
            Path(name).expanduser().write_text(text, encoding="utf-8")
        except OSError as error:
            self._console.print(f"error: couldn't save '{name}': {_why(error)}")
            return
        self._console.print(f"History saved to: {name}")

    def _save_model(self, name: str) -> None:
        try:
            for _ in self._api.stream("/api/create", self._session.save_body(name)):
                pass
        except ServerError as error:
            if "invalid model name" not in error.text:
                raise
            self._console.print(f"error: The model name '{name}' is invalid")
            return
        self._console.print(f"Created new model '{name}'")


def _why(error: OSError | ValueError) -> str:
    """What is wrong, without the path that stands beside it."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _is_file(text: str) -> bool:
    return text.endswith(".json") or text.startswith(("./", "../", "/", "~/"))


def _checked(messages: Any) -> list[dict[str, Any]]:
    """A chat file's messages; raises ValueError when it is none."""
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and m.get("role") in _ROLES and isinstance(m.get("content"), str) for m in messages
    ):
        raise ValueError("expected a JSON list of messages with role and content")
    return messages
