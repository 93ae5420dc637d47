"""Who may talk to the server, and what it makes of bodies and headers that are not as they should be."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes.server import RunningServer, running_server


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost", True),
        ("https://127.0.0.1:8080", True),
        ("http://0.0.0.0:1", True),
        ("tauri://localhost", True),
        ("vscode-webview://abc", True),
        ("null", False),
        ("http://LOCALHOST", False),
        ("https://localhost.evil.example", False),
        ("http://localhostevil.example", False),
        ("chrome-extension://abc", False),
        ("https://good.example", True),
        ("https://a.wild.example", True),
        ("https://wild.example.evil", False),
    ],
)
async def test_only_known_origins_may_use_the_api_from_a_browser(tmp_path: Path, origin: str, allowed: bool) -> None:
    origins = ("https://good.example", "https://*.wild.example")
    async with running_server(tmp_path, origins=origins) as server:
        async with server.http.get(server.url + "/api/version", headers={"Origin": origin}) as answer:
            assert answer.status == (200 if allowed else 403)
            assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
            assert (answer.headers.get("Vary") == "Origin") is allowed
            if not allowed:
                assert await answer.read() == b""
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        async with server.http.options(server.url + "/api/generate", headers=headers) as answer:
            assert answer.status == (204 if allowed else 403)
            if allowed:
                assert answer.headers["Access-Control-Max-Age"] == "43200"
                assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
                assert "X-Stainless-Retry-Count" in answer.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1234", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("10.0.0.1:80", 200),
        ("[::1]:11434", 200),
        ("printer.local", 200),
        ("svc.internal", 200),
        ("evil.example", 403),
        ("8.8.8.8", 403),
        ("172.16.0.1", 200),
        ("169.254.1.1", 403),
        ("192.0.2.1", 403),
        ("[fd00::1]:80", 200),
        ("[fe80::1]:80", 403),
        ("[2001:db8::1]:80", 403),
        ("localhost.evil.example", 403),
        ("good.example", 200),
    ],
)
async def test_only_hosts_that_mean_this_machine_are_answered(tmp_path: Path, host: str, status: int) -> None:
    async with (
        running_server(tmp_path, origins=("https://good.example",)) as server,
        server.http.get(server.url + "/api/version", headers={"Host": host}) as answer,
    ):
        assert answer.status == status
        assert (await answer.read() == b"") is (status == 403)


async def test_keys_are_demanded_when_set_in_the_form_of_each_api(tmp_path: Path) -> None:
    async with running_server(tmp_path, api_keys=("k1", "k2")) as server:
        assert (await server.call("GET", "/"))[0] == 200
        status, reply = await server.call("GET", "/api/tags")
        assert (status, list(reply)) == (401, ["error"])
        _, reply = await server.call("POST", "/v1/chat/completions", {})
        assert reply["error"]["code"] == "invalid_api_key"
        _, reply = await server.call("POST", "/v1/messages", {})
        assert reply["error"]["type"] == "authentication_error"
        assert list(reply) == ["type", "error", "request_id"]
        assert reply["request_id"].startswith("req_")
        for headers in ({"Authorization": "Bearer k2"}, {"x-api-key": "k1"}):
            assert (await server.call("GET", "/api/tags", headers=headers))[0] == 200
        assert (await server.call("GET", "/api/tags", headers={"Authorization": "Bearer k3"}))[0] == 401


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ("", "missing request body"),
        ("  \n", "missing request body"),
        ('{"model": "a', "unexpected EOF"),
        ("not json", "invalid JSON"),
        ("[1]", "must be an object, not array"),
        ('{"model": ["a"]}', 'field "model" must be of type string, not array'),
        ('{"model": "go", "stream": "yes"}', 'field "stream" must be of type boolean, not string'),
        ('{"model": "go", "options": "x"}', 'field "options"'),
        ('{"model": "\xff'.encode("latin-1"), "unexpected EOF"),
        (r'{"model": "\ud800", x}', "invalid JSON"),
        ("[" * 5000 + "]" * 5000, "nested over 1000 levels"),
        ('{"model":' * 1200 + "1" + "}" * 1200, "nested over 1000 levels"),
    ],
)
async def test_a_body_that_is_not_what_it_should_be_is_a_400_that_says_why(
    server: RunningServer, sent: str | bytes, error: str
) -> None:
    status, reply = await server.call("POST", "/api/generate", sent)
    assert status == 400
    assert error in reply["error"]


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (rb"a\ud83d", "a\ufffd"),
        (rb"\udc00\ud83d\ude00\ud83dx", "\ufffd\U0001f600\ufffdx"),
        (rb"\\ud83d\ud83d", "\\ud83d\ufffd"),
        (b"a\xffb", "a\ufffdb"),
    ],
)
async def test_half_characters_are_replaced_not_refused(server: RunningServer, sent: bytes, content: str) -> None:
    body = b'{"model": "go", "_debug_render_only": true, "template": "{{ .Prompt }}", "prompt": "' + sent + b'"}'
    status, reply = await server.call("POST", "/api/generate", body)
    assert (status, reply["_debug_info"]) == (200, {"rendered_template": content})


async def test_the_content_type_of_a_request_does_not_matter(server: RunningServer) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await server.call("POST", "/api/show", '{"model": "go"}', headers=headers))[0] == 200


async def test_a_body_over_the_bound_is_a_413_without_reading_it(tmp_path: Path) -> None:
    async with running_server(tmp_path, max_body_bytes=1000) as server:
        status, reply = await server.call("POST", "/api/generate", b"x" * 1001)
        assert status == 413
        assert "1000" in reply["error"]

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 100

        async with server.http.post(server.url + "/api/generate", data=pieces()) as answer:
            assert answer.status == 413


@pytest.mark.parametrize("whole", [True, False])
async def test_header_lines_over_the_bound_are_a_431(server: RunningServer, whole: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 70_000 + (b"\r\n\r\n" if whole else b""))
    async with asyncio.timeout(30):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
        await reader.read()
    writer.close()


async def test_headers_below_the_bound_are_fine(server: RunningServer) -> None:
    headers = {f"X-{n}": "a" * 7000 for n in range(8)}
    assert (await server.call("GET", "/api/version", headers=headers))[0] == 200


async def test_a_large_body_does_not_hold_up_others(server: RunningServer) -> None:
    big = json.dumps({"model": "go", "prompt": "x", "raw": True, "foo": "y" * 30_000_000})
    slow = asyncio.create_task(server.call("POST", "/api/generate", None, data=io.BytesIO(big.encode())))
    assert (await server.call("GET", "/api/version"))[0] == 200
    assert (await slow)[0] == 200
