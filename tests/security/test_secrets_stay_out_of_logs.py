"""Secrets in logs and errors: no key, prompt, token or password is written down, at the finest level either."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

import pytest
from tests.fakes.registry import FakeRegistry, status
from tests.fakes.server import running_server

from corral.store import manifests as media

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
