"""Loading a session's model before the first message; `run` and the REPL's /load do it the same way."""

from __future__ import annotations

from corral.cli.context import Context
from corral.cli.progress import Progress
from corral.cli.session import Session


def load(context: Context, session: Session) -> None:
    """Load the session's model, with a spinner; raises ServerError."""
    with Progress(context.console) as waiting:
        waiting.status("")
        try:
            for _ in context.api.stream("/api/generate", session.load_body()):
                pass
        finally:
            waiting.stop(clear=True)
