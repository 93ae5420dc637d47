"""The holders of API keys: whose key a request shows, and an id for each that tells nothing of the key.

`guard.py` asks; what is kept of a holder's (slots, saved conversations, responses) is bound to the id. It is made with
a secret of this server, so that neither a list nor a file's name helps anybody to guess a key.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from corral.config import Settings
from corral.runner.kvfile import server_key

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever shows one key. name: its place among the keys, for lists; id: what their things are bound to."""

    name: str
    id: str


class Holders:
    """All keys that are accepted; empty = none are asked for."""

    def __init__(self, keys: Sequence[str], secret: bytes) -> None:
        self._known = [
            (key.encode(), Holder(f"key:{number}", _id(key, secret))) for number, key in enumerate(keys, start=1)
        ]

    def __bool__(self) -> bool:
        return bool(self._known)

    @property
    def ids(self) -> frozenset[str]:
        """Of all holders."""
        return frozenset(holder.id for _, holder in self._known)

    def by_id(self, owner: str) -> Holder | None:
        """The holder of this id."""
        return next((holder for _, holder in self._known if holder.id == owner), None)

    def of(self, shown: bytes) -> Holder | None:
        """Whose key this is; every key is looked at, so that the time tells nothing."""
        found = [holder for key, holder in self._known if hmac.compare_digest(shown, key)]
        return found[0] if found else None


def holders_of(settings: Settings) -> Holders:
    """The holders of the settings' keys. Blocking: reads the server's secret, where there are keys."""
    if not settings.api_keys:
        return Holders((), b"")
    try:
        secret = server_key(settings.home / "kv" / "key")
    except OSError as error:
        log.warning("what is kept for the holders of keys is lost at the next start: %s", error.strerror)
        secret = secrets.token_bytes(32)
    return Holders(settings.api_keys, secret)


def _id(key: str, secret: bytes) -> str:
    return hashlib.blake2b(key.encode(), digest_size=16, key=secret, person=b"corral holder").hexdigest()
