"""Who is served where no key is asked for: bound beyond this machine without keys, clients at private addresses only.

A server on a local network works as Ollama's does. One that the internet reaches, by a forwarded port or a public
address, does not serve strangers unless its owner says so (`CORRAL_OPEN`) or hands out keys. Pure; used by guard.py.
"""

from __future__ import annotations

import ipaddress

from corral.config import Settings

CLOSED = (
    "this server has no API keys, so it serves private addresses only; make a key (openssl rand -hex 32), start the "
    "server with CORRAL_API_KEYS set to it, and send it as 'Authorization: Bearer <key>'"
)
AT_START = (
    "no API keys are set, so only clients at private addresses are served; set CORRAL_API_KEYS to let others in with "
    "a key, or CORRAL_OPEN=true to serve everybody"
)


class Door:
    """Decides by the client's address; `is_guarded` when it can refuse anybody."""

    def __init__(self, settings: Settings) -> None:
        self.is_guarded = not (settings.api_keys or settings.open or _is_this_machine(settings.host.host))

    def admits(self, client: str | None) -> bool:
        """Whether a client at this address is served; None = no address, as on a Unix socket."""
        if not self.is_guarded or client is None:
            return True
        try:
            address = ipaddress.ip_address(client.partition("%")[0])
        except ValueError:
            return False
        return not (getattr(address, "ipv4_mapped", None) or address).is_global


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
