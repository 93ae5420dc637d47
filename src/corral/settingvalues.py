"""How the text of a setting becomes its value, and how a setting is declared. Used by config.py.

A reader takes text and returns the value, or raises one of UNREADABLE.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import field
from typing import Any

from corral.address import Address, parse_address
from corral.durations import FOREVER, parse_duration
from corral.errors import CorralError, InvalidRequest

UNREADABLE = (ValueError, OverflowError, InvalidRequest)  # what a reader may raise


class SettingsError(CorralError):
    """A setting's value cannot be read."""

    def __init__(self, name: str, value: str, accepted: str) -> None:
        super().__init__(f"{name}={value!r}: expected {accepted}")
        self.name = name
        self.value = value


def read_host(text: str) -> Address:
    """An address whose port and host are such; raises ValueError."""
    address = parse_address(text)
    if address.bad_port:
        raise ValueError(address.bad_port)
    if ":" in address.host:
        ipaddress.IPv6Address(address.host)  # raises ValueError: a second colon is none of a name or of IPv4
    if any(char.isspace() or char in "[]@?#" for char in address.host):
        raise ValueError(address.host)
    return address


def read_bool(text: str) -> bool:
    """As Corral's own variables are written; raises ValueError."""
    if text.lower() in {"1", "t", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "f", "false", "no", "off"}:
        return False
    raise ValueError(text)


def read_ollama_bool(text: str) -> bool:
    """As Ollama reads its variables: whatever Go's ParseBool refuses means true."""
    return text not in {"0", "f", "F", "FALSE", "false", "False"}


def read_uint(text: str) -> int:
    """A whole number, 0 or more; raises ValueError."""
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def read_seconds(text: str) -> float:
    """Seconds or a duration; negative = for ever. Raises ValueError, InvalidRequest."""
    try:
        seconds = float(int(text))
    except ValueError:
        seconds = parse_duration(text)
    return FOREVER if seconds < 0 else seconds


def read_stall(text: str) -> float:
    """Seconds after which a silent peer is given up; 0 = never."""
    return read_seconds(text) or FOREVER


def read_list(text: str) -> tuple[str, ...]:
    """What commas separate."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def read_pins(text: str) -> tuple[str, ...]:
    """`model=node`, separated by commas; raises ValueError."""
    pins = read_list(text)
    if not all(name.strip() and node.strip() for name, _, node in (pin.rpartition("=") for pin in pins)):
        raise ValueError(text)
    return pins


def read_keys(text: str) -> tuple[str, ...]:
    """One key at least; raises ValueError."""
    keys = read_list(text)
    if not keys:
        raise ValueError(text)  # whoever writes the setting wants a closed server
    return keys


def read_bytes(text: str) -> int:
    """Bytes, with a suffix such as MiB or without; raises ValueError."""
    for suffix, size in (("kib", 2**10), ("mib", 2**20), ("gib", 2**30), ("kb", 10**3), ("mb", 10**6), ("gb", 10**9)):
        if text.lower().endswith(suffix):
            return _at_least_zero(int(float(text[: -len(suffix)]) * size))
    return _at_least_zero(int(text))


def _at_least_zero(value: int) -> int:
    if value < 0:
        raise ValueError(value)
    return value


def choice(*values: str) -> Callable[[str], str]:
    """A reader of one of these words; raises ValueError."""

    def read(text: str) -> str:
        if text.lower() not in values:
            raise ValueError(text)
        return text.lower()

    return read


_MOST_VIRTUAL_NODES = 16
CLUSTERS = "auto, local:N (so many nodes on this machine), ray://host:port or host:port"


def read_cluster(text: str) -> str:
    """Where a Ray cluster is, as it is handed on; raises ValueError for what names none."""
    kind, _, count = text.partition(":")
    if kind == "local" and not (count.isdecimal() and 1 <= int(count) <= _MOST_VIRTUAL_NODES):
        raise ValueError(text)
    port = text.rpartition(":")[2]
    if text and text != "auto" and not (port.isascii() and port.isdecimal()):
        raise ValueError(text)
    return text


_ACCEPTED: dict[Any, str] = {
    read_host: "an address such as 127.0.0.1:11434, its port at most 65535",
    read_bool: "true or false",
    read_uint: "a whole number, 0 or more",
    read_seconds: "seconds or a duration such as 5m; negative = for ever",
    read_stall: "seconds or a duration such as 5m; 0 or negative = never",
    read_list: "values separated by commas",
    read_keys: "one key or several, separated by commas; unset it to ask for none",
    read_bytes: "bytes, or a number with KiB, MiB or GiB",
    read_cluster: CLUSTERS,
}


AS_OLLAMA: dict[Any, Callable[[str], Any]] = {read_bool: read_ollama_bool, read_host: parse_address}


def setting(
    default: Any,
    env: str,
    read: Callable[[str], Any],
    doc: str,
    accepted: str = "",
    *,
    effect: bool = True,
    guarded: bool = False,
) -> Any:
    """A field of Settings: default, variable name without its prefix, how its text is read, one line of help.

    guarded: it decides who is talked to, what is started or how it is confined; a `corral.toml` that merely lies in
    the current folder, as a cloned repository may hold one, cannot set it.
    """
    accepted = accepted or _ACCEPTED.get(read, "another value")
    metadata = {"env": env, "read": read, "doc": doc, "accepted": accepted, "effect": effect, "guarded": guarded}
    return field(default=default, metadata=metadata)


def without_effect(default: Any, env: str, read: Callable[[str], Any], why: str) -> Any:
    """A field that is read because Ollama has it, and that changes nothing; whoever sets it is told why."""
    return setting(default, env, read, f"no effect: {why}", effect=False)
