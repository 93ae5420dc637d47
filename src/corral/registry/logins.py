"""Keys for registries that ask for a login: `<home>/logins.json`, mode 0600, written by `corral login`. Blocking code.

A key is shown to the host and port that it was given for, and to nobody else: not where that redirects to, not in a
log, not in an error.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

from yarl import URL

from corral.errors import InvalidRequest, RegistryError

_FILE = "logins.json"
_USER = "corral"  # OCI clients send some name with a key; servers that know keys only do not read it


def place_of(host: str) -> str:
    """`host:port` of a host as people write it, with or without scheme. Raises InvalidRequest."""
    try:
        url = URL(host if "://" in host else f"https://{host}")
        found = f"{url.host.lower()}:{url.port}" if url.host and url.port else ""
    except ValueError:
        found = ""
    if not found or url.user or url.query_string or url.fragment or url.path not in {"", "/"}:
        raise InvalidRequest(f"{host.rpartition('@')[2]!r} is no host", field="host")
    return found


class Logins:
    """The keys below `home`."""

    def __init__(self, home: Path) -> None:
        self._path = home / _FILE

    def authorization(self, base: URL) -> str:
        """The Authorization header for a registry; "" = no key is known. Raises RegistryError for a broken file."""
        key = self._read().get(f"{(base.host or '').lower()}:{base.port}", "")
        return f"Basic {base64.b64encode(f'{_USER}:{key}'.encode()).decode()}" if key else ""

    def save(self, host: str, key: str) -> None:
        """Remember a key. Raises InvalidRequest, OSError."""
        if not key or not key.isprintable():
            raise InvalidRequest("a key is one line of printable characters", field="key")
        self._write({**self._read(), place_of(host): key})

    def forget(self, host: str) -> bool:
        """Forget a key; False when there was none."""
        known, place = self._read(), place_of(host)
        if place not in known:
            return False
        del known[place]
        self._write(known)
        return True

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RegistryError(f"{self._path} cannot be read: {type(error).__name__}") from None
        return {str(host): str(key) for host, key in found.items()} if isinstance(found, dict) else {}

    def _write(self, known: dict[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{_FILE}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(known, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
