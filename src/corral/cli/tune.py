"""`corral tune MODEL`: have the server measure a model's launch settings; the choice goes to the output."""

from __future__ import annotations

from corral.cli.context import Context
from corral.cli.progress import Progress

_CHOSEN = "chosen: "


def tune(context: Context) -> None:
    """Show what is being measured, then the choice. Raises ServerError."""
    name, chosen = context.words[0], ""
    with Progress(context.console) as progress:
        for event in context.api.stream("/api/tune", {"model": name}):
            status = str(event.get("status") or "")
            progress.status(status)
            if status.startswith(_CHOSEN):
                chosen = status.removeprefix(_CHOSEN)
    context.console.print(f"{name}: {chosen}; used from the next load on")
