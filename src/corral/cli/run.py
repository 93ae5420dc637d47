"""`corral run`: flags and standard input become a session; then one answer, an embedding, or the REPL."""

from __future__ import annotations

import json
from typing import Any

from corral.cli.answer import AnswerPrinter, format_stats, print_answer
from corral.cli.api import ServerError
from corral.cli.attachments import attach, tell_unseen
from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.cli.loading import load
from corral.cli.session import Session
from corral.cli.transfer import print_warnings, pull_model
from corral.durations import parse_duration

_LEVELS = ("high", "medium", "low", "max")


def run(context: Context) -> int:
    """`corral run MODEL [PROMPT...]`."""
    session = _session(context)
    console = context.console
    words = list(context.words[1:])
    interactive = not words and console.reads_terminal and console.writes_terminal
    if not console.reads_terminal:
        piped = console.read_all()
        words = [piped, *words] if piped else words
    prompt = " ".join(words)
    shown = show_or_pull(context, session.model)
    session.describe(shown)
    capabilities = shown.get("capabilities") or []
    if "embedding" in capabilities:
        _embed(context, session, prompt)
        return 0
    if "image" in capabilities:
        raise UsageError("image generation models are not currently supported")
    if not interactive:
        return _answer_once(context, session, prompt)
    load(context, session)
    from corral.cli.chat import Chat

    return Chat(context, session).run()


def _session(context: Context) -> Session:
    flags = context.parsed
    session = Session(
        context.words[0],
        think_chosen=flags.given("think"),
        keep_alive=flags.text("keepalive"),
        hide_thinking=flags.flag("hidethinking"),
        verbose=flags.flag("verbose"),
        word_wrap=not flags.flag("nowordwrap"),
        markdown=context.settings.markdown,
    )
    if session.think_chosen:
        session.think = _think(flags.text("think"))
    if session.keep_alive:
        parse_duration(session.keep_alive)  # refuses what the server would misread
    if flags.text("format"):
        session.format = _format(flags.text("format"))
    return session


def _think(text: str) -> bool | str:
    if text in {"", "true", "false"}:
        return text != "false"
    if text in _LEVELS:
        return text
    raise UsageError(f'invalid value for --think: "{text}" (must be true, false, high, medium, low, or max)')


def _format(text: str) -> Any:
    if text == "json":
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"invalid value for --format: {error} (must be json or a JSON schema)") from None


def show_or_pull(context: Context, name: str) -> dict[str, Any]:
    """A model's description; a model that is not here is pulled first."""
    try:
        return context.api.show_model(name)
    except ServerError as error:
        if error.status != 404:
            raise
    pull_model(context, name, insecure=context.parsed.flag("insecure"))
    return context.api.show_model(name)


def _answer_once(context: Context, session: Session, prompt: str) -> int:
    console = context.console
    images: list[str] = []
    tell_unseen(prompt, console, session.model, sees=session.multimodal)
    if session.multimodal:
        prompt, images = attach(prompt, console)
    printer = AnswerPrinter(console, session.style)
    body = session.generate_body(prompt, images)
    if console.shows_progress:
        body["progress"] = True  # the first load of a model may have to translate it
    events = context.api.stream("/api/generate", body)
    last, cancelled = print_answer(console, printer, events)
    if cancelled:
        return 0
    if prompt:
        console.print("\n")
    print_warnings(context, last.get("warnings") or [])
    if session.verbose and last.get("done"):
        console.note(format_stats(last), end="")
    return 0


def _embed(context: Context, session: Session, text: str) -> None:
    if not text:
        raise UsageError(f'embedding models require input text. Usage: corral run {session.model} "your text here"')
    body: dict[str, Any] = {"model": session.model, "input": text}
    if session.keep_alive:
        body["keep_alive"] = session.keep_alive
    if context.parsed.given("truncate"):
        body["truncate"] = context.parsed.flag("truncate")
    if context.parsed.number("dimensions"):
        body["dimensions"] = context.parsed.number("dimensions")
    answer = context.api.post("/api/embed", body)
    vectors = answer.get("embeddings") or []
    if not vectors:
        raise UsageError("no embeddings returned")
    context.console.print(json.dumps(vectors[0], separators=(",", ":")))
    print_warnings(context, answer.get("warnings") or [])
