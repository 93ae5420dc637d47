"""Secrets in logs and errors: no key, prompt, token or password is written down, at the finest level either."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from tests.fakes.registry import FakeRegistry, Fault, cut, status, times, wrong_bytes
from tests.fakes.server import running_server
from tests.unit.registry.conftest import Naps
from tests.unit.registry.tiny import pull

from corral.config import Settings
from corral.errors import CorralError, InvalidRequest, RegistryError
from corral.names import ModelName
from corral.registry.client import RegistryClient, RetryPolicy, repository_of
from corral.registry.endpoints import Endpoints
from corral.registry.service import Registry
from corral.store import manifests as media
from corral.store.models import ModelStore

KEY, WRONG, PROMPT, ANSWER = "key-of-alpha-93", "key-that-was-tried-55", "the code name is REDFALCON", "fake runner"
PASSWORD = "pass-of-the-mirror-71"


async def test_nothing_that_is_secret_is_logged(
    tmp_path: Path, fake: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.token = "token-of-the-registry-64"
    fake.add_model("library/m", "latest", {media.MODEL: b"GGUF"})
    fake.faults.append(status(1, "/manifests/", 404))  # of the mirror, which is told; then the registry is asked
    mirror = fake.url.replace("http://", f"http://user-of-mirror:{PASSWORD}@")
    async with running_server(tmp_path, api_keys=(KEY, "other"), mirrors=(f"{fake.host}={mirror}",)) as server:
        server.add("go", texts={"template": "{{ .System }} {{ .Prompt }}"})
        server.add("jinja", jinja="{{ messages }}")
        head = {"Authorization": f"Bearer {KEY}"}
        replies = [
            await server.call("GET", "/api/tags", headers={"Authorization": f"Bearer {WRONG}"}),
            await server.call("GET", f"/api/tags?key={WRONG}", headers={"X-Api-Key": WRONG}),
        ]
        user = [{"role": "user", "content": PROMPT}]
        for path, body in (
            ("/api/generate", {"model": "go", "prompt": PROMPT, "system": PROMPT, "stream": False}),
            ("/api/chat", {"model": "jinja", "messages": user, "stream": False}),
            ("/api/chat", {"model": "jinja", "messages": user, "stream": False, "options": {"num_ctx": 4}}),
            ("/v1/messages", {"model": "go", "max_tokens": 5, "messages": user}),
            ("/v1/responses", {"model": "go", "input": PROMPT}),
            ("/v1/chat/completions", {"model": "nope", "messages": user}),
            ("/api/generate", {"model": "go", "prompt": PROMPT, "format": {"pattern": "(" + PROMPT}, "stream": False}),
            ("/api/pull", {"model": f"{fake.host}/library/m", "insecure": True, "stream": False}),
        ):
            await server.call("POST", path, body, headers=head)
        server.engine.error = (500, "the engine failed", "server_error")
        await server.call("POST", "/api/chat", {"model": "jinja", "messages": user, "stream": False}, headers=head)
        replies.append(await server.call("GET", "/api/requests", headers=head))
        replies.append(await server.call("GET", "/metrics", headers=head))
    hidden = [KEY, WRONG, "REDFALCON", PASSWORD, fake.token, base64.b64encode(PASSWORD.encode()).decode(), ANSWER]
    ours = [record for record in caplog.records if record.name.startswith(("corral", "uvicorn.error"))]
    assert ours
    for record in ours:
        text = record.getMessage() + (logging.Formatter().formatException(record.exc_info) if record.exc_info else "")
        assert [word for word in hidden if word in text] == [], text
    for _, reply in replies:
        assert [word for word in hidden if word in str(reply)] == []


def away(part: str, location: str) -> Fault:
    """Every GET of such a path is sent elsewhere."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": location})

    return times(1000, part, answer)


MIRRORS_FAIL: dict[str, Callable[[FakeRegistry], Fault]] = {
    "no manifest": lambda mirror: status(1000, "/manifests/", 500),
    "no JSON": lambda mirror: status(1000, "/manifests/", 200, text="{"),
    "no blobs": lambda mirror: status(1000, "/blobs/", 404),
    "busy": lambda mirror: status(1000, "/blobs/", 503, {"Retry-After": "1"}),
    "wrong bytes": lambda mirror: wrong_bytes(mirror, 1000),
    "cut": lambda mirror: cut(mirror, 1000, 0),
    "a private address": lambda mirror: away("/blobs/", "http://169.254.169.254/x"),
    "itself, with the login": lambda mirror: away("/blobs/", mirror.url.replace("http://", f"http://u:{PASSWORD}@")),
}


@pytest.mark.parametrize("how", MIRRORS_FAIL)
async def test_a_mirror_that_fails_is_named_without_its_login(
    tmp_path: Path, fake: FakeRegistry, naps: Naps, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.DEBUG, "corral")
    fake.add_model("library/m", "latest", {media.MODEL: b"GGUF" * 10})
    async with FakeRegistry(blobs=dict(fake.blobs), manifests=dict(fake.manifests)).serve() as mirror:
        mirror.faults.append(MIRRORS_FAIL[how](mirror))
        base = mirror.url.replace("http://", f"http://user-of-mirror:{PASSWORD}@")
        settings = Settings(home=tmp_path, models=tmp_path / "models", mirrors=(f"{fake.host}={base}",))
        registry = Registry(ModelStore(settings.models), settings, policy=RetryPolicy(sleep=naps, stall_s=0.3))
        said = ""
        try:
            said = str(await pull(registry, f"{fake.host}/library/m"))
        except CorralError as error:
            said = str(error)
        await registry.close()
        assert mirror.seen
    assert mirror.host in caplog.text
    assert PASSWORD not in caplog.text + said
    assert "user-of-mirror" not in caplog.text + said


@pytest.mark.parametrize(
    "address", ["ftp://u:PW@host", "http://u:PW@host?x", "http://u:PW@host#x", "http://u:PW@[", "u:PW@"]
)
def test_a_mirror_that_cannot_be_one_is_told_without_its_login(address: str) -> None:
    for text in (address, f"registry.test={address}"):
        with pytest.raises(InvalidRequest, match="mirror") as caught:
            Endpoints(RegistryClient(lambda: pytest.fail("nobody is asked")), [text.replace("PW", PASSWORD)])
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("code", [403, 407, 502])
async def test_the_login_of_a_proxy_is_in_no_error(
    naps: Naps,
    fake: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    code: int,
) -> None:
    caplog.set_level(logging.DEBUG, "corral")

    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, reason="No")

    fake.faults.append(refuse)
    monkeypatch.setenv(f"{scheme}_proxy", fake.url.replace("http://", f"http://user-of-proxy:{PASSWORD}@"))
    monkeypatch.setenv("no_proxy", "")
    client = RegistryClient(lambda: pytest.fail("no token is asked for"), RetryPolicy(sleep=naps, connect_s=1))
    with pytest.raises(RegistryError) as caught:
        await client.manifest(repository_of(ModelName.parse("registry.test/a/b:1"), scheme), "1")
    await client.close()
    assert [seen.method for seen in fake.seen][:1] == ["CONNECT" if scheme == "https" else "GET"]
    assert str(code) in str(caught.value)
    assert PASSWORD not in str(caught.value) + caplog.text
    assert "user-of-proxy" not in str(caught.value) + caplog.text
