"""The server before a command's first call: it answers, or is started where the command and the address allow that."""

from __future__ import annotations

from corral.cli.api import ServerNotRunning, is_loopback
from corral.cli.context import Context


def reach_server(context: Context, *, start: bool) -> None:
    """Return when the server answers. Raises ServerNotRunning and the like, ServerDidNotStart."""
    host = context.settings.host
    if host.bad_port:
        context.console.note(f"Warning: {host.bad_port} is no port, {host.url} is asked")
    try:
        context.api.heartbeat()
    except ServerNotRunning:
        if not (start and is_loopback(host)):
            raise
        from corral.cli.background import start_server

        start_server(context)
