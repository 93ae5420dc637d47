"""DNS rebinding, and requests that a page of another origin has a browser send (CSRF, CORS)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes.server import RunningServer, running_server

from corral.address import Address

HOSTS = [
    "evil.example", "localhost.evil.com", "evil.com.", "127.0.0.1.evil.com", "127.0.0.1.nip.io", "localhost.",
    "8.8.8.8",    "evil.example:11434", "[2001:4860:4860::8888]", "[::ffff:8.8.8.8]:80", "127.0.0.1@evil.com",
    "evil.com/127.0.0.1",
    "0x7f.1.evil", "localhost evil.com", "xn--lcalhost-9za.com", "169.254.169.254", "metadata.google.internal.evil.com",
]  # fmt: skip
ORIGINS = [
    "https://evil.example", "null", "http://localhost.evil.com", "http://evil.com:80", "http://127.0.0.1.evil.com",
    "https://localhost@evil.com", "http://evil.com#localhost", "file", "http://", "chrome-extension://abcdef", "HTTP://EVIL",
]  # fmt: skip
SENDS = [
    ("POST", "/api/generate", '{"model":"go","prompt":"x","stream":false}'),
    ("POST", "/api/pull", '{"model":"x"}'),
    ("POST", "/api/copy", '{"source":"go","destination":"stolen"}'),
    ("DELETE", "/api/delete", '{"model":"go"}'),
    ("POST", "/v1/chat/completions", '{"model":"go","messages":[{"role":"user","content":"x"}]}'),
]


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
async def bound(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with the model `go`, on this machine only and on all interfaces."""
    async with running_server(tmp_path, host=Address(host=request.param, port=0)) as running:
        running.add("go", texts={"template": "{{ .Prompt }}"})
        yield running


async def names(server: RunningServer) -> list[str]:
    """The models that there are."""
    _, listed = await server.call("GET", "/api/tags")
    return [row["name"] for row in listed["models"]]


async def test_a_name_of_another_host_is_refused(bound: RunningServer) -> None:
    for host in HOSTS:
        for method, path, body in SENDS:
            status, _ = await bound.call(method, path, body, headers={"Host": host})
            assert status in {400, 403}, (host, path)
    assert await names(bound) == ["go:latest"]
    assert bound.launcher.runners == []


async def test_a_foreign_page_changes_nothing_and_reads_nothing(bound: RunningServer) -> None:
    for origin in ORIGINS:
        for method, path, body in SENDS:
            # text/plain, as a form sends it without asking first
            headers = {"Origin": origin, "Content-Type": "text/plain"}
            async with bound.http.request(method, bound.url + path, data=body, headers=headers) as answer:
                assert answer.status == 403, (origin, path)
                assert await answer.read() == b""
                assert "Access-Control-Allow-Origin" not in answer.headers
        preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        async with bound.http.options(bound.url + "/api/chat", headers=preflight) as answer:
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
    assert await names(bound) == ["go:latest"]
    assert bound.launcher.runners == []


async def test_no_page_is_trusted_with_a_visitors_login(bound: RunningServer) -> None:
    headers = {"Origin": "http://localhost:3000"}
    async with bound.http.get(bound.url + "/api/tags", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == headers["Origin"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_two_origins_in_one_request_are_foreign(bound: RunningServer) -> None:
    headers = [("Origin", "http://localhost"), ("Origin", "https://evil.example")]
    async with bound.http.get(bound.url + "/api/tags", headers=headers[::-1]) as answer:
        assert answer.status == 403
