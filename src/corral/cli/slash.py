"""The REPL's commands: a table from prefix to method, matched in order, each with Ollama's words.

/quit, /model, and files for /save and /load are the guide's. An argument of /save and /load is a file when it ends in
`.json` or is written as a path (`./x`, `../x`, `/x`, `~/x`); everything else is a model's name, as in Ollama.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from corral.cli import help_texts
from corral.cli.api import ServerError
from corral.cli.context import Context
from corral.cli.formats import format_g
from corral.cli.history import History
from corral.cli.loading import load
from corral.cli.models import models_table
from corral.cli.session import Session
from corral.cli.show import describe
from corral.errors import InvalidRequest
from corral.options import parse_parameter

_BLOCK = '"""'
_ROLES = frozenset(["system", "user", "assistant", "tool"])
_NO_TEXT = {
    "license": "No license was specified for this model.",
    "template": "No prompt template was specified for this model.",
}
Action = Callable[[list[str]], None]


class SlashCommands:
    """Runs commands on a session."""

    def __init__(self, context: Context, session: Session, history: History) -> None:
        self._api = context.api
        self._context = context
        self._console = context.console
        self._session = session
        self._history = history
        self._table: tuple[tuple[str, Action], ...] = (
            ("/list", self._list),
            ("/load", self._load),
            ("/save", self._save),
            ("/clear", self._clear),
            ("/set", self._set),
            ("/show", self._show),
            ("/model", self._model),
            ("/help", self._help),
            ("/?", self._help),
        )

    def run(self, line: str) -> bool:
        """Run a line that begins with a slash; False when it says goodbye. Raises CorralError as the server fails."""
        words = line.split()
        if line.startswith(("/exit", "/bye", "/quit")):
            return False
        for prefix, action in self._table:
            if line.startswith(prefix):
                action(words[1:])
                return True
        self._unknown(words[0])
        return True

    def opens_block(self, line: str) -> str | None:
        """The first line of a `/set system \"\"\"` block, None when the line is no such command."""
        words = line.split()
        if not line.startswith("/set") or len(words) < 3 or words[1] != "system" or not words[2].startswith(_BLOCK):
            return None
        return " ".join(words[2:]).removeprefix(_BLOCK)

    def set_system(self, text: str) -> None:
        """Set the session's system message."""
        self._session.set_system(text)
        self._console.print("Set system message.")

    def _unknown(self, text: str) -> None:
        self._console.print(f"Unknown command '{text}'. Type /? for help")

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
            self._console.print(f"error: couldn't load '{name}': {error}")
            return
        self._console.print(f"History loaded from: {name}")

    def _save(self, words: list[str]) -> None:
        if len(words) != 1:
            self._console.print("Usage:\n  /save <modelname>")
        elif _is_file(words[0]):
            self._save_file(words[0])
        else:
            self._save_model(words[0])

    def _save_file(self, name: str) -> None:
        text = json.dumps(self._session.messages, indent=2, ensure_ascii=False)
        try:
            Path(name).expanduser().write_text(text, encoding="utf-8")
        except OSError as error:
            self._console.print(f"error: couldn't save '{name}': {error}")
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

    # /set

    def _set(self, words: list[str]) -> None:
        if not words:
            self._console.note(help_texts.SET)
            return
        settings: dict[str, Action] = {
            "history": lambda _: self._save_history(True),
            "nohistory": lambda _: self._save_history(False),
            "wordwrap": lambda _: self._set_word_wrap(True),
            "nowordwrap": lambda _: self._set_word_wrap(False),
            "verbose": lambda _: self._set_verbose(True),
            "quiet": lambda _: self._set_verbose(False),
            "think": self._set_think,
            "nothink": self._set_no_think,
            "format": self._set_format,
            "noformat": self._set_no_format,
            "parameter": self._set_parameter,
            "system": self._set_system,
        }
        action = settings.get(words[0])
        if action is None:
            self._unknown(f"/set {words[0]}")
        else:
            action(words[1:])

    def _save_history(self, saving: bool) -> None:
        self._history.saving = saving

    def _set_word_wrap(self, on: bool) -> None:
        self._session.word_wrap = on
        self._console.print(f"Set '{'wordwrap' if on else 'nowordwrap'}' mode.")

    def _set_verbose(self, on: bool) -> None:
        self._session.verbose = on
        self._console.print(f"Set '{'verbose' if on else 'quiet'}' mode.")

    def _set_think(self, words: list[str]) -> None:
        self._choose_think(words[0] if words else True)
        self._console.print(f"Set 'think' mode to '{words[0]}'." if words else "Set 'think' mode.")

    def _set_no_think(self, _: list[str]) -> None:
        self._choose_think(False)
        self._console.print("Set 'nothink' mode.")

    def _choose_think(self, value: bool | str) -> None:
        self._session.think = value
        self._session.think_chosen = True
        capabilities = self._api.show_model(self._session.model).get("capabilities") or []
        if "thinking" not in capabilities:
            self._console.note(f'warning: model "{self._session.model}" does not support thinking output')

    def _set_format(self, words: list[str]) -> None:
        if not words or words[0] != "json":
            self._console.print("Invalid or missing format. For 'json' mode use '/set format json'")
            return
        self._session.format = "json"
        self._console.print("Set format to 'json' mode.")

    def _set_no_format(self, _: list[str]) -> None:
        self._session.format = None
        self._console.print("Disabled format.")

    def _set_parameter(self, words: list[str]) -> None:
        if len(words) < 2:
            self._console.note(help_texts.PARAMETERS)
            return
        name, *texts = words
        try:
            self._session.options[name] = parse_parameter(name, texts)
        except InvalidRequest as error:
            self._console.print(f'Couldn\'t set parameter: "{error}"')
            return
        self._console.print(f"Set parameter '{name}' to '{', '.join(texts)}'")

    def _set_system(self, words: list[str]) -> None:
        if words:
            self.set_system(" ".join(words))
        else:
            self._console.note(help_texts.SET)

    # /show

    def _show(self, words: list[str]) -> None:
        if not words:
            self._console.note(help_texts.SHOW)
            return
        session = self._session
        try:
            shown = self._api.show_model(session.model, extra={"system": session.system, "options": session.options})
        except ServerError:
            self._console.print("error: couldn't get model")
            raise
        what = words[0]
        if what == "info":
            self._console.note(describe(shown), end="")
        elif what in {"license", "template"}:
            self._console.print(str(shown.get(what) or _NO_TEXT[what]))
        elif what == "modelfile":
            self._console.print(str(shown.get("modelfile") or ""))
        elif what == "parameters":
            self._console.print(self._parameters(str(shown.get("parameters") or "")))
        elif what == "system":
            text = session.system or str(shown.get("system") or "")
            self._console.print(f"{text}\n" if text else "No system message was specified for this model.")
        else:
            self._unknown(f"/show {what}")

    def _parameters(self, defined: str) -> str:
        none = "No additional parameters were specified for this model."
        text = "Model defined parameters:\n" + "".join(f"  {line}\n" for line in (defined or none).split("\n"))
        if self._session.options:
            lines = (f"  {name:<30} {_value_text(value)}\n" for name, value in self._session.options.items())
            text += "\nUser defined parameters:\n" + "".join(lines)
        return text


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{' '.join(value)}]"
    return (
        str(value).lower() if isinstance(value, bool) else format_g(value) if isinstance(value, float) else str(value)
    )


def _is_file(text: str) -> bool:
    return text.endswith(".json") or text.startswith(("./", "../", "/", "~/"))


def _checked(messages: Any) -> list[dict[str, Any]]:
    """A chat file's messages; raises ValueError when it is none."""
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and m.get("role") in _ROLES and isinstance(m.get("content"), str) for m in messages
    ):
        raise ValueError("expected a JSON list of messages with role and content")
    return messages
