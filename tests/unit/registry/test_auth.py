from __future__ import annotations

from pathlib import Path

import pytest
from yarl import URL

from corral.errors import RegistryError
from corral.registry.auth import Challenge, read_token, token_request
from corral.registry.keys import load_identity

BASE = URL("https://registry.example:5000")


def test_the_token_url_is_sorted_and_signed_as_ollama_does(tmp_path: Path) -> None:
    identity = load_identity(tmp_path)
    challenge = Challenge.parse(
        'Bearer realm="https://registry.example:5000/t",service="s x",scope="a:b:pull c:d:push"'
    )
    assert challenge is not None
    request = token_request(challenge, BASE, identity, now=12.9, nonce="n")
    url = "https://registry.example:5000/t?nonce=n&scope=a%3Ab%3Apull&scope=c%3Ad%3Apush&service=s+x&ts=12"
    assert str(request.url) == url
    # base64 of the hex sha256 of nothing, as the reference has it
    empty = "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="
    assert request.authorization == identity.sign(f"GET,{url},{empty}")


def test_a_nonce_is_sixteen_random_bytes_without_padding(tmp_path: Path) -> None:
    challenge = Challenge("https://registry.example:5000/t")
    identity = load_identity(tmp_path)
    nonces = {token_request(challenge, BASE, identity).url.query["nonce"] for _ in range(3)}
    assert len(nonces) == 3
    assert {len(nonce) for nonce in nonces} == {22}


@pytest.mark.parametrize("realm", ["https://evil.example:5000/t", "https://registry.example/t", "https://x@evil/t"])
def test_a_realm_elsewhere_gets_no_signature(tmp_path: Path, realm: str) -> None:
    with pytest.raises(RegistryError, match=r'realm host ".*" does not match original host "registry.example:5000"'):
        token_request(Challenge(realm), BASE, load_identity(tmp_path))


def test_a_realm_that_gives_up_tls_gets_no_signature(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="without TLS"):
        token_request(Challenge("http://registry.example:5000/t"), BASE, load_identity(tmp_path))


@pytest.mark.parametrize("header", ["", 'Basic realm="x"', 'Bearer service="x"'])
def test_other_challenges_are_none(header: str) -> None:
    assert Challenge.parse(header) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token":"a\\nb"}'])
def test_a_reply_without_a_token_is_an_error(body: bytes) -> None:
    with pytest.raises(RegistryError):
        read_token(body)


def test_both_spellings_of_the_token_are_read() -> None:
    assert read_token(b'{"token":"a"}') == "a"
    assert read_token(b'{"access_token":"b"}') == "b"
