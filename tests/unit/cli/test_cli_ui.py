"""`corral ui`: the page's address, always; a browser, where there is one that runs scripts."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.native_api import FakeApi


class Browser:
    """A browser that only notes what it was to open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened: list[str] = []

    def open(self, url: str) -> bool:
        self.opened.append(url)
        return True


@pytest.mark.parametrize(("name", "opens"), [("firefox", True), ("w3m", False), ("www-browser", False)])
def test_the_page_is_opened_in_a_browser_that_runs_scripts(
    cli: Callable[..., Any], api: FakeApi, monkeypatch: pytest.MonkeyPatch, name: str, opens: bool
) -> None:
    browser = Browser(name)
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    outcome = cli("ui")
    assert (outcome.status, outcome.out) == (0, f"http://{api.environ['CORRAL_HOST']}/ui\n")
    assert browser.opened == ([outcome.out.strip()] if opens else [])


def test_without_a_browser_the_address_is_enough_and_a_key_is_never_in_it(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Browser:
        raise webbrowser.Error

    monkeypatch.setattr(webbrowser, "get", none)
    outcome = cli("ui", environ={"CORRAL_API_KEYS": "secret-key"})
    assert outcome.status == 0
    assert "secret-key" not in outcome.out + outcome.err
    assert "asks for a key" in outcome.err
