"""Keys for registries: kept for one host and port, readable to their owner only, never taken from a broken file."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from yarl import URL

from corral.errors import InvalidRequest, RegistryError
from corral.registry.logins import Logins, place_of


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("Example.com", "example.com:443"),
        ("http://example.com/", "example.com:80"),
        ("example.com:11434", "example.com:11434"),
        ("http://[::1]:8", "::1:8"),
    ],
)
def test_a_host_is_its_name_and_port(host: str, place: str) -> None:
    assert place_of(host) == place


@pytest.mark.parametrize("host", ["", "http://", "u:p@host", "host/path", "host?x", "host:99999", "http://host:x"])
def test_what_is_no_host_is_refused_without_its_login(host: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        place_of(host)
    assert "u:p" not in str(refused.value)


def test_a_key_is_shown_to_its_own_place_only(tmp_path: Path) -> None:
    logins = Logins(tmp_path / "home")
    logins.save("http://box:11434", "s3cret")
    shown = logins.authorization(URL("http://BOX:11434"))
    assert base64.b64decode(shown.removeprefix("Basic ")) == b"corral:s3cret"
    for other in ("http://box", "https://box", "http://box.example:11434", "http://box:11435"):
        assert logins.authorization(URL(other)) == ""
    assert stat.S_IMODE((tmp_path / "home" / "logins.json").stat().st_mode) == 0o600
    assert (logins.forget("box:11434"), logins.forget("box:11434")) == (True, False)
    assert logins.authorization(URL("http://box:11434")) == ""


def test_a_broken_file_is_an_error_that_tells_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "logins.json").write_text('{"box:80": "s3cret"')
    with pytest.raises(RegistryError) as refused:
        Logins(tmp_path).authorization(URL("http://box"))
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("key", ["", "two\nlines", "\x1b[0m"])
def test_a_key_is_one_line(tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidRequest):
        Logins(tmp_path).save("box", key)
