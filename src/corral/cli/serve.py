"""`corral serve`: the server, in this process. The only command that imports it."""

from __future__ import annotations

import errno
from dataclasses import replace

from corral.cli.context import Context
from corral.errors import CorralError
from corral.settingvalues import CLUSTERS, SettingsError, read_cluster


class AddressTaken(CorralError):
    """Something listens at the address already."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"listen tcp {host}:{port}: bind: address already in use")


def _cluster(text: str) -> str:
    try:
        return read_cluster(text)
    except ValueError:
        raise SettingsError("--cluster", text, CLUSTERS) from None


def serve(context: Context) -> int:
    """Run until SIGINT or SIGTERM; returns the exit status."""
    from corral.server.serve import serve as run_server

    settings = replace(context.settings, share=context.settings.share or context.parsed.flag("share"))
    if context.parsed.given("cluster"):
        settings = replace(settings, cluster=_cluster(context.parsed.values["cluster"]))
    try:
        return run_server(settings)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressTaken(context.settings.host.host, context.settings.host.port) from None
        raise
