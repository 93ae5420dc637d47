"""The options of one run: built-in table < server setting < model < request, and the token limit.

Pure. Source: ollama server/routes.go modelOptions, server/sched.go getRunner, llm/llama_server.go, 2026-08.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from corral import options
from corral.config import Settings
from corral.core import Notice
from corral.errors import InvalidRequest
from corral.sched.memory import HostFigures
from corral.sched.plan import default_window

_PREDICT_PER_WINDOW = 10


@dataclass(frozen=True, slots=True)
class Choices:
    """Typed option values of one run. explicit: names that a model or a caller set, the rest is ours to choose."""

    values: Mapping[str, Any]
    explicit: frozenset[str]
    notices: tuple[Notice, ...] = ()

    @property
    def requested_window(self) -> int:
        """num_ctx as asked for, before it is raised or capped; embedding limits follow it."""
        return int(self.values["num_ctx"])

    @property
    def refuses_overflow(self) -> bool:
        """Whether a prompt that does not fit is an error."""
        return bool(self.values["on_overflow"] == "error")

    def num_predict(self, window: int) -> int:
        """Tokens to make at most; negative and larger values become ten windows."""
        limit = _PREDICT_PER_WINDOW * window
        wanted = int(self.values["num_predict"])
        return limit if wanted < 0 or wanted > limit else wanted


def choose(
    settings: Settings, model_parameters: Mapping[str, Any], asked: Mapping[str, Any], host: HostFigures
) -> Choices:
    """Merge and check the options of a request.

    Raises InvalidRequest naming an option of the wrong type. What a model's own parameters have wrong is only noted.
    """
    inherited, model_notices = _lenient(model_parameters)
    given, notices = options.validate(asked)
    ours = {"num_ctx": default_window(settings, host), "on_overflow": settings.on_overflow}
    table = options.defaults(settings.defaults) | ours
    explicit = frozenset(inherited) | frozenset(given)
    return Choices(table | inherited | given, explicit, _as_notices([*model_notices, *notices]))


def _lenient(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[options.OptionNotice]]:
    """A stored model's parameters; older stores hold names and types that nobody would accept today."""
    clean: dict[str, Any] = {}
    notices: list[options.OptionNotice] = []
    for name, value in parameters.items():
        if name not in options.OPTIONS:
            continue
        try:
            values, found = options.validate({name: value})
        except InvalidRequest as error:
            notices.append(options.OptionNotice("option_ignored", f"the model's {error.why}", name))
        else:
            clean |= values
            notices += found
    return clean, notices


def _as_notices(found: Iterable[options.OptionNotice]) -> tuple[Notice, ...]:
    return tuple(Notice(notice.code, notice.message, {"option": notice.option}) for notice in found)
