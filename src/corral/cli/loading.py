"""Loading a session's model before the first message; `run` and the REPL's /load do it the same way."""

from __future__ import annotations

from corral.cli.context import Context
from corral.cli.progress import Progress, show_translation
from corral.cli.session import Session


def load(context: Context, session: Session) -> None:
    """Load the session's model, with a spinner, or a bar while it is translated first; raises ServerError."""
    with Progress(context.console) as waiting:
        waiting.status("")
        try:
            for event in context.api.stream("/api/generate", session.load_body()):
                show_translation(waiting, event)
        finally:
            waiting.stop(clear=True)
