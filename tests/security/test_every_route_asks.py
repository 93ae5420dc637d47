"""No authentication, and ways around it: every route, asked without the key, with a wrong one, in every spelling, and
from a foreign page. The routes are the app's own, so that a new one is asked too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from starlette.routing import Route
from tests.fakes.server import RunningServer, running_server
from yarl import URL

from corral.server.app import create_app

KEY = "k-" + "5" * 30
OPEN = {"/", "/ui", "/ui/{name:path}"}  # the sign of life and the page's files, the same for everybody
FOREIGN = {"Origin": "https://evil.example"}
GOOD: list[dict[str, str]] = [
    {"Authorization": f"Bearer {KEY}"},
    {"Authorization": f"bearer  {KEY}"},
    {"X-Api-Key": KEY},
]
BAD: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer "},
    {"Authorization": f"Bearer {KEY}x"},
    {"Authorization": f"Bearer {KEY[:-1]}"},
    {"Authorization": f"Bearer {KEY.upper()}"},
    {"Authorization": f"Basic {KEY}"},
    {"Authorization": KEY},
    {"Authorization": f"Bearer {KEY},{KEY}"},
    {"X-Api-Key": f"{KEY} {KEY}"},
    {"X-Api-Key": "*"},
    {"Authorization": "Bearer x", "X-Api-Key": KEY},
    {"Api-Key": KEY},
    {"Cookie": f"key={KEY}; Authorization=Bearer {KEY}"},
    {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
    {"X-Original-URL": "/", "X-Rewrite-URL": "/"},
    {"X-HTTP-Method-Override": "GET"},
]


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server that asks for a key."""
    async with running_server(tmp_path, api_keys=(KEY,)) as running:
        yield running


def asked(server: RunningServer) -> Iterator[tuple[str, str, str]]:
    """(method, path with its parts filled in, route) of everything that there is."""
    for route in create_app(server.deps).routes:
        assert isinstance(route, Route)
        path = re.sub(r"\{[^}]*\}", "x", route.path.replace("{digest}", "sha256:" + "0" * 64))
        for method in sorted(route.methods or ()):
            yield method, path, route.path


async def status_of(server: RunningServer, method: str, path: str, headers: dict[str, str]) -> int:
    """The status alone, 0 for the 401 of routes that want an account; no redirect is followed."""
    body = "{}" if method in {"POST", "PUT", "DELETE"} else None
    target = URL(server.url + path, encoded=True)
    async with server.http.request(method, target, headers=headers, data=body, allow_redirects=False) as answer:
        wants_account = answer.status == 401 and b"valid API key" not in await answer.read() and method != "HEAD"
        return 0 if wants_account else answer.status


async def test_without_the_key_there_is_nothing(locked: RunningServer) -> None:
    seen = list(asked(locked))
    assert len(seen) > 50
    for method, path, route in seen:
        statuses = set(await asyncio.gather(*(status_of(locked, method, path, headers) for headers in BAD)))
        assert (statuses == {401}) is (route not in OPEN), (method, path, statuses)


async def test_with_the_key_each_route_is_there(locked: RunningServer) -> None:
    for method, path, _ in asked(locked):
        for headers in GOOD:
            assert await status_of(locked, method, path, headers) != 401, (method, path)


async def test_a_foreign_page_is_refused_on_every_route_before_anything_is_done(locked: RunningServer) -> None:
    for method, path, _ in asked(locked):
        for headers in ({}, GOOD[0]):
            assert await status_of(locked, method, path, {**headers, **FOREIGN}) == 403, (method, path)
    assert locked.launcher.runners == []


async def test_every_spelling_of_a_path_gets_the_same_verdict(locked: RunningServer) -> None:
    spellings = [
        "{0}/", "/{0}", "//{0}", "/./{0}", "/x/..{0}", "{0}?x=/", "/ui/..{0}", "/ui/%2e%2e{0}", "/UI{0}",
        "{0}%00", "{0}%20", "{0};/ui", "/%2f{0}", "/ui%2f..%2f{0}", "{0}..", "{0}%2f", "/ui/..;{0}",
    ]  # fmt: skip
    methods = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "FOO")
    for path in ("/api/tags", "/api/chat", "/v1/models", "/v1/messages", "/metrics", "/api/requests"):
        for spelling in spellings:
            target = spelling.format(path)
            statuses = set(await asyncio.gather(*(status_of(locked, method, target, {}) for method in methods)))
            assert 200 not in statuses, (spelling, path)
            # the page's own folder says of files that are not there that they are not
            assert statuses <= {401, 400} or target.lower().startswith("/ui"), (spelling, path, statuses)


async def test_methods_that_ask_nothing_tell_nothing(locked: RunningServer) -> None:
    for _, path, route in asked(locked):
        if route not in OPEN:
            tried = (status_of(locked, method, path, {}) for method in ("OPTIONS", "HEAD", "PROPFIND"))
            assert set(await asyncio.gather(*tried)) <= {401, 400}, path


async def test_many_at_once_are_not_confused(locked: RunningServer) -> None:
    heads = [GOOD[number % 3] if number % 2 else BAD[number % len(BAD)] for number in range(100)]
    got = await asyncio.gather(*(status_of(locked, "GET", "/api/tags", head) for head in heads))
    assert got == [200 if number % 2 else 401 for number in range(100)]
