"""The ed25519 key pair that a registry knows its user by; read and made here, used by auth.py.

The pair lies in Corral's home as `id_ed25519` (OpenSSH PEM, 0600) and `id_ed25519.pub` (0644). Without one there,
Ollama's own pair is used where it exists, so that access granted to it carries over. Source of the signature's form:
ollama auth/auth.go, 2026-08.
"""

from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from corral.errors import RegistryError
from corral.store.files import make_directory

KEY_NAME = "id_ed25519"
_PRIVATE_MODE = 0o600
_PUBLIC_MODE = 0o644


class Identity:
    """A private key that can sign."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public_key(self) -> str:
        """The base64 field of the OpenSSH public key line."""
        return self._public_line().split(" ")[1]

    def sign(self, text: str) -> str:
        """`<public key>:<signature>`, as the Authorization header has it; the signature is base64 of 64 bytes."""
        return f"{self.public_key}:{base64.b64encode(self._key.sign(text.encode())).decode()}"

    def _public_line(self) -> str:
        return self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def write(self, folder: Path) -> None:
        """Write both files; an existing private key is never replaced (FileExistsError)."""
        make_directory(folder)
        private = self._key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        # Written aside and linked: no moment at which the name exists with half a key or with open permissions.
        temp = folder / f".{KEY_NAME}-{os.getpid()}"
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE_MODE)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, _PRIVATE_MODE)
                file.write(private)
                file.flush()
                os.fsync(fd)
            (folder / KEY_NAME).hardlink_to(temp)
        finally:
            temp.unlink()
        public = folder / f"{KEY_NAME}.pub"
        public.write_text(self._public_line() + "\n")
        public.chmod(_PUBLIC_MODE)


def load_identity(home: Path, fallback: Path | None = None) -> Identity:
    """The identity in `home`, else the one in `fallback` (Ollama's folder), else a new one, written to `home`.

    Raises RegistryError when a key file is there but cannot be read as an ed25519 key.
    """
    for folder in (home, fallback):
        identity = _read(folder / KEY_NAME) if folder else None
        if identity is not None:
            return identity
    with contextlib.suppress(FileExistsError):
        Identity(Ed25519PrivateKey.generate()).write(home)
    identity = _read(home / KEY_NAME)
    assert identity is not None
    return identity


def _read(path: Path) -> Identity | None:
    try:
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RegistryError(f"the registry key {path.name} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RegistryError(f"the registry key {path.name} cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise RegistryError(f"the registry key {path.name} is no ed25519 key")
    return Identity(key)
