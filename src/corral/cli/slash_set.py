"""The REPL's /set and /system: a table from word to method, each with Ollama's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corral.cli import help_texts
from corral.cli.api import Api
from corral.cli.console import Console
from corral.cli.history import History
from corral.cli.session import Session
from corral.errors import CorralError, InvalidRequest
from corral.options import parse_parameter

Action = Callable[[list[str]], None]


class SetCommands:
    """Changes a session's settings."""

    def __init__(self, api: Api, console: Console, session: Session, history: History) -> None:
        self._api = api
        self._console = console
        self._session = session
        self._history = history
        self.table: dict[str, Action] = {
            "history": lambda _: self._save_history(True),
            "nohistory": lambda _: self._save_history(False),
            "wordwrap": lambda _: self._set_word_wrap(True),
            "nowordwrap": lambda _: self._set_word_wrap(False),
            "markdown": lambda _: self._set_markdown(True),
            "nomarkdown": lambda _: self._set_markdown(False),
            "verbose": lambda _: self._set_verbose(True),
            "quiet": lambda _: self._set_verbose(False),
            "think": self._set_think,
            "nothink": self._set_no_think,
            "format": self._set_format,
            "noformat": self._set_no_format,
            "parameter": self._set_parameter,
            "system": self._set_system,
        }

    def run(self, words: list[str]) -> bool:
        """`/set WORDS...`; False when there is no such setting."""
        if not words:
            self._console.note(help_texts.SET)
            return True
        action = self.table.get(words[0])
        if action is not None:
            action(words[1:])
        return action is not None

    def system(self, words: list[str]) -> None:
        """`/system [TEXT]`: show the message, or set it."""
        if words:
            self.set_system(" ".join(words))
            return
        text = self._session.system or str(self._shown().get("system") or "")
        self._console.print(f"{text}\n" if text else "No system message was specified for this model.")

    def set_system(self, text: str) -> None:
        """Set the session's system message."""
        self._session.set_system(text)
        self._console.print("Set system message.")

    def _save_history(self, saving: bool) -> None:
        self._history.saving = saving

    def _set_word_wrap(self, on: bool) -> None:
        self._session.word_wrap = on
        self._console.print(f"Set '{'wordwrap' if on else 'nowordwrap'}' mode.")

    def _set_markdown(self, on: bool) -> None:
        self._session.markdown = on
        self._console.print(f"Set '{'markdown' if on else 'nomarkdown'}' mode.")

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
        if "thinking" not in (self._shown().get("capabilities") or []):
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
        if name == "num_ctx":
            self._tell_window(self._session.options[name])

    def _tell_window(self, asked: int) -> None:
        """A window over what the model was made for is cut to that by the server; better said at once."""
        try:
            info = self._shown().get("model_info") or {}
        except CorralError:
            return
        most = info.get(f"{info.get('general.architecture')}.context_length")
        if isinstance(most, int) and 0 < most < asked:
            self._console.note(f"warning: {self._session.model} was made for {most} tokens; its window will be {most}")

    def _set_system(self, words: list[str]) -> None:
        if words:
            self.set_system(" ".join(words))
        else:
            self._console.note(help_texts.SET)

    def _shown(self) -> dict[str, Any]:
        return self._api.show_model(self._session.model)
