"""/ui without a browser: its files are served, confined by headers, loaded on use, and open where the API is not."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes.server import RunningServer, running_server

import corral.server

UI = Path(corral.server.__file__).parent / "ui"
SERVED = sorted(path.relative_to(UI).as_posix() for path in UI.rglob("*") if path.suffix in {".js", ".mjs", ".css"})


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server that asks for a key."""
    async with running_server(tmp_path, api_keys=("secret",)) as running:
        yield running


async def test_the_page_and_all_its_files_are_served_with_their_types(server: RunningServer) -> None:
    async with server.http.get(server.url + "/ui") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert await answer.text() == (UI / "index.html").read_text(encoding="utf-8")
    for name in SERVED:
        async with server.http.get(f"{server.url}/ui/{name}") as answer:
            assert (answer.status, await answer.read()) == (200, (UI / name).read_bytes()), name
            assert answer.content_type == ("text/css" if name.endswith(".css") else "text/javascript"), name


async def test_what_the_page_may_do_is_said_with_every_file(server: RunningServer) -> None:
    for name in ("", "/app.js"):
        async with server.http.get(f"{server.url}/ui{name}") as answer:
            policy = dict(part.partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split("; "))
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
            assert policy["require-trusted-types-for"] == "'script'"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_a_file_that_the_browser_has_is_not_sent_again(server: RunningServer) -> None:
    async with server.http.get(server.url + "/ui/app.js") as answer:
        tag = answer.headers["ETag"]
    async with server.http.get(server.url + "/ui/app.js", headers={"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
        assert "Content-Security-Policy" in answer.headers


@pytest.mark.parametrize(
    "name",
    ["no.js", "../page.py", "..%2fpage.py", "%2e%2e/page.py", "vendor/libraries.json", "vendor", "app.js/", "/app.js"],
)
async def test_nothing_but_the_pages_files_is_below_it(server: RunningServer, name: str) -> None:
    import yarl

    async with server.http.get(yarl.URL(f"{server.url}/ui/{name}", encoded=True), allow_redirects=False) as answer:
        assert answer.status in {307, 404}


async def test_a_slash_too_many_leads_to_the_page(server: RunningServer) -> None:
    async with server.http.get(server.url + "/ui/") as answer:
        assert (answer.status, answer.url.path) == (200, "/ui")


async def test_the_files_need_no_key_and_the_api_does(keyed: RunningServer) -> None:
    for name in ("/ui", "/ui/app.js"):
        assert (await keyed.call("GET", name))[0] == 200
    for name in ("/api/tags", "/ui/../api/tags", "/api/tags/../../ui", "/metrics"):
        status, _ = await keyed.call("GET", name)
        assert status == 401 if "ui" not in name else status in {200, 401}
    async with keyed.http.get(f"{keyed.url}/ui/%2e%2e/api/tags", allow_redirects=False) as answer:
        assert answer.status in {307, 401, 404}
        assert b"models" not in await answer.read()


async def test_foreign_pages_and_hosts_do_not_get_it(server: RunningServer) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert (await server.call("GET", "/ui", headers=headers))[0] == 403


async def test_its_code_is_loaded_with_the_first_request(server: RunningServer) -> None:
    sys.modules.pop("corral.server.page", None)
    await server.call("GET", "/api/tags")
    assert "corral.server.page" not in sys.modules
    await server.call("GET", "/ui")
    assert "corral.server.page" in sys.modules


def test_the_document_has_no_code_or_style_of_its_own() -> None:
    html = (UI / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]* src=)[^>]*>|<style|\son\w+=|\sstyle=|javascript:|https?://", html) == []


def test_the_pages_own_code_makes_no_html_of_text_and_stays_readable() -> None:
    for path in UI.rglob("*.js"):
        if "vendor" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            path
        )


def test_the_libraries_are_the_ones_that_were_pinned() -> None:
    lines = (UI / "vendor" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name, digest in sums.items():
        assert hashlib.sha256((UI / "vendor" / name).read_bytes()).hexdigest() == digest, name
    listed = {path.relative_to(UI / "vendor").as_posix() for path in (UI / "vendor").rglob("*") if path.is_file()}
    assert listed - set(sums) == {"SHA256SUMS", "libraries.json"}
