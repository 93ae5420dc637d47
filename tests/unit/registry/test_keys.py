from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from corral.errors import RegistryError
from corral.registry.keys import load_identity


def test_a_new_pair_is_an_openssh_pair_that_only_its_owner_can_read(tmp_path: Path) -> None:
    load_identity(tmp_path / "home")
    private, public = tmp_path / "home/id_ed25519", tmp_path / "home/id_ed25519.pub"
    assert private.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert public.read_text().startswith("ssh-ed25519 AAAA")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"id_ed25519", "id_ed25519.pub"}


def test_the_pair_is_made_once(tmp_path: Path) -> None:
    first, second = load_identity(tmp_path), load_identity(tmp_path)
    assert first.public_key == second.public_key


def test_a_signature_verifies_with_the_public_key(tmp_path: Path) -> None:
    identity = load_identity(tmp_path)
    public, signature = identity.sign("GET,https://x/token").split(":")
    key = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
    assert isinstance(key, Ed25519PublicKey)
    key.verify(base64.b64decode(signature), b"GET,https://x/token")
    assert len(base64.b64decode(signature)) == 64


def test_ollamas_own_pair_is_used_where_corral_has_none(tmp_path: Path) -> None:
    ollama = load_identity(tmp_path / "ollama")
    assert load_identity(tmp_path / "home", tmp_path / "ollama").public_key == ollama.public_key
    assert not (tmp_path / "home").exists()


def test_a_damaged_key_is_an_error_and_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519").write_text("garbage")
    with pytest.raises(RegistryError, match="id_ed25519 cannot be read"):
        load_identity(tmp_path)
    assert (tmp_path / "id_ed25519").read_text() == "garbage"
