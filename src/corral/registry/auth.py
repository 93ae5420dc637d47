"""The registry's token flow: a 401's challenge, the signed URL that answers it. Pure; client.py sends it.

Source: ollama server/auth.go and auth/auth.go, 2026-08.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote_plus, urlsplit

import msgspec
from yarl import URL

from corral.errors import RegistryError

if TYPE_CHECKING:
    from corral.registry.keys import Identity

_FIELD = re.compile(r'(?<![a-zA-Z])([a-zA-Z]++)\s*+=\s*+(?:"([^"]*)"|([^",\s]+))')
_EMPTY_BODY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Challenge:
    """A `WWW-Authenticate: Bearer` header."""

    realm: str
    service: str = ""
    scope: str = ""

    @classmethod
    def parse(cls, header: str) -> Challenge | None:
        """Read the header; None when it is no Bearer challenge with a realm."""
        scheme, _, rest = header.strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        found = {key.lower(): quoted or bare for key, quoted, bare in _FIELD.findall(rest)}
        realm = found.get("realm", "")
        return cls(realm, found.get("service", ""), found.get("scope", "")) if realm else None


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What to GET, to the byte, and the Authorization header that proves who asks."""

    url: URL
    authorization: str


def token_request(
    challenge: Challenge, base: URL, identity: Identity, *, now: float | None = None, nonce: str = ""
) -> TokenRequest:
    """The signed request for a token.

    Raises RegistryError when the realm is not on the registry's own host and port, or gives up its TLS: a registry
    must not be able to send our signature elsewhere.
    """
    parts = urlsplit(challenge.realm)
    realm = parts.netloc.rpartition("@")[2]
    wanted = base.raw_authority.rpartition("@")[2]
    if not _same_place(parts.scheme, realm, base):
        raise RegistryError(f'realm host "{realm}" does not match original host "{wanted}"', 401)
    if parts.scheme not in {"https", base.scheme}:
        raise RegistryError(f'realm "{parts.scheme}://{realm}" would send the signature without TLS', 401)
    values = parse_qsl(parts.query, keep_blank_values=True)
    values.append(("service", challenge.service))
    values += [("scope", scope) for scope in challenge.scope.split(" ")]
    values.append(("ts", str(int(time.time() if now is None else now))))
    values.append(("nonce", nonce or secrets.token_urlsafe(_NONCE_BYTES)))
    values.sort(key=lambda pair: pair[0])  # stable: values of one key keep their order
    query = "&".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in values)
    text = f"{parts.scheme}://{realm}{parts.path}?{query}"
    return TokenRequest(URL(text, encoded=True), identity.sign(f"GET,{text},{_EMPTY_BODY}"))


def _same_place(scheme: str, authority: str, base: URL) -> bool:
    try:
        realm = URL(f"{scheme}://{authority}/")
    except ValueError:
        return False
    # A port left out is the registry's default one even where the realm's scheme differs: then the ports differ too.
    return (realm.host, realm.port) == (base.host, base.port)


class _TokenReply(msgspec.Struct):
    token: str = ""
    access_token: str = ""


def read_token(body: bytes) -> str:
    """The token in a reply's JSON; raises RegistryError when there is none."""
    try:
        reply = msgspec.json.decode(body, type=_TokenReply)
    except msgspec.DecodeError as error:
        raise RegistryError(f"the registry's token reply cannot be read: {error}") from error
    token = reply.token or reply.access_token
    if not token or not token.isascii() or not token.isprintable():
        raise RegistryError("the registry's token reply has no token")
    return token
