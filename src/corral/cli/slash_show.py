"""The REPL's /show: what the server says of the session's model, in Ollama's words."""

from __future__ import annotations

from typing import Any

from corral.cli import help_texts
from corral.cli.api import Api, ServerError
from corral.cli.console import Console
from corral.cli.formats import format_g
from corral.cli.session import Session
from corral.cli.show import describe

_NO_TEXT = {
    "license": "No license was specified for this model.",
    "template": "No prompt template was specified for this model.",
}
TOPICS = ("info", "license", "modelfile", "parameters", "system", "template")


def show(api: Api, console: Console, session: Session, words: list[str]) -> bool:
    """`/show WORDS...`; False when there is nothing of that name to show."""
    if not words:
        console.note(help_texts.SHOW)
        return True
    try:
        shown = api.show_model(session.model, extra={"system": session.system, "options": session.options})
    except ServerError:
        console.print("error: couldn't get model")
        raise
    what = words[0]
    if what == "info":
        console.note(describe(shown), end="")
    elif what in _NO_TEXT:
        console.print(str(shown.get(what) or _NO_TEXT[what]))
    elif what == "modelfile":
        console.print(str(shown.get("modelfile") or ""))
    elif what == "parameters":
        console.print(_parameters(session, str(shown.get("parameters") or "")))
    elif what == "system":
        text = session.system or str(shown.get("system") or "")
        console.print(f"{text}\n" if text else "No system message was specified for this model.")
    return what in TOPICS


def _parameters(session: Session, defined: str) -> str:
    none = "No additional parameters were specified for this model."
    text = "Model defined parameters:\n" + "".join(f"  {line}\n" for line in (defined or none).split("\n"))
    if session.options:
        lines = (f"  {name:<30} {_value_text(value)}\n" for name, value in session.options.items())
        text += "\nUser defined parameters:\n" + "".join(lines)
    return text


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{' '.join(value)}]"
    return (
        str(value).lower() if isinstance(value, bool) else format_g(value) if isinstance(value, float) else str(value)
    )
