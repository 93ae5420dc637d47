"""Where a server listens and clients connect: an address as users write it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_PORT = 11434


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect; host "" = all interfaces; base_path has no trailing slash."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    base_path: str = ""
    bad_port: str = field(default="", compare=False)  # as it was written, when it is none and the default is used

    @property
    def url(self) -> str:
        """The address as a client connects to it: unspecified hosts become the loopback address."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  mapped away
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{self.base_path}"


def parse_address(text: str) -> Address:
    """Read an address; a bad port means the default one. Source: ollama envconfig/config.go Host, 2026-08."""
    text = text.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    default_port = DEFAULT_PORT if not separator else {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    rest, _, path = rest.partition("/")
    host, port = rest, ""
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    is_port = port.isascii() and port.isdecimal() and int(port) <= 65535
    if not rest:
        host = "127.0.0.1"
    base = f"/{path.strip('/')}" if path.strip("/") else ""
    return Address(scheme, host, int(port) if is_port else default_port, base, "" if is_port else port)
