"""What a client reads when something fails: never a path of this host, a Python object or another's words."""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.fakes.server import RunningServer, running_server
from tests.http.conftest import add_models
from tests.unit.sched.fake_launcher import Client, FakeLauncher, running_scheduler, slow_started

from corral.errors import RegistryError, RunnerFailedToStart
from corral.registry.keys import load_identity
from corral.runner.spec import RunnerSpec
from corral.sched import LeaseRequest

TELLTALE = re.compile(r"/(tmp|home|root|usr|proc)/|0x[0-9a-f]{6,}|object at|Errno|Traceback|\.py\b|_ssl\.c")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path) as running:
        add_models(running)
        yield running


@pytest.mark.parametrize(
    "error",
    [
        NotADirectoryError(20, "Not a directory", "/home/somebody/kv"),
        RuntimeError("<Thing object at 0x7fad97a3d6d0>"),
        KeyError("/home/somebody"),
    ],
)
async def test_a_load_that_fails_unexpectedly_names_no_path(error: Exception) -> None:
    launcher = FakeLauncher(start_at_once=False)
    async with running_scheduler(launcher) as scheduler:
        client = Client(scheduler, LeaseRequest("a", "a", "", RunnerSpec(Path("/a"))))
        await slow_started(launcher)
        launcher.handles[0].fail(error)
        with pytest.raises(RunnerFailedToStart) as raised:
            await client.task
    assert not TELLTALE.search(str(raised.value)), raised.value
    assert "somebody" not in str(raised.value)


def test_a_registry_key_that_cannot_be_read_is_named_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519").mkdir()
    with pytest.raises(RegistryError) as raised:
        load_identity(tmp_path)
    assert str(tmp_path) not in str(raised.value)
    assert "id_ed25519" in str(raised.value)


@pytest.fixture
async def stranger(tmp_path: Path) -> AsyncIterator[int]:
    """The port of a TLS server whose certificate nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "chain").write_bytes(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain")
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def test_a_registry_whose_certificate_is_not_trusted(server: RunningServer, stranger: int) -> None:
    status, reply = await server.post("/api/pull", {"model": f"127.0.0.1:{stranger}/a/b:c"})
    assert status == 500
    assert "certificate" in reply["error"]
    assert not TELLTALE.search(reply["error"]), reply


async def test_a_registry_that_speaks_no_tls_or_hangs_up(server: RunningServer) -> None:
    listening = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with listening:
        mute = listening.sockets[0].getsockname()[1]
        for port in (server.port, mute):
            for more in ({}, {"insecure": True}):
                _, reply = await server.post("/api/pull", {"model": f"127.0.0.1:{port}/a/b:c", **more})
                assert not TELLTALE.search(reply["error"]), reply


HALVES: list[tuple[str, bytes]] = [
    ("/api/generate", b'{"model": "go", "prompt": "'),
    ("/api/blobs/sha256:" + "0" * 64, b"GGUF"),
    ("/v1/audio/transcriptions", b"--x\r\nContent-Disposition: form-data"),
    ("/nowhere", b"x"),
    ("/api/version", b"x"),
]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("length", [10**6, 10**12])
async def test_a_client_that_leaves_in_mid_body_leaves_no_error_in_the_log(
    server: RunningServer, caplog: pytest.LogCaptureFixture, length: int, reset: bool
) -> None:
    caplog.set_level(logging.WARNING)
    for path, half in HALVES:
        await leave_in_mid_body(server, path, half, length, reset=reset)
    await asyncio.sleep(0.1)
    assert (await server.call("GET", "/api/version"))[0] == 200
    told = [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert told == []


async def leave_in_mid_body(server: RunningServer, path: str, half: bytes, length: int, *, reset: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + half)
    await writer.drain()
    try:
        async with asyncio.timeout(0.1):
            await reader.read(1000)
    except TimeoutError:
        pass
    if reset:
        raw: Any = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


@pytest.mark.parametrize(
    "error", [RuntimeError("/srv/secret/x"), OSError(5, "bad", "/srv/secret/x"), KeyError("/srv/secret")]
)
async def test_what_nobody_foresaw_is_an_internal_error_and_no_more(
    server: RunningServer, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(server.deps.store, "list", fail)
    monkeypatch.setattr(server.deps.store, "load", fail)
    user = {"role": "user", "content": "x"}
    for method, path, body in (
        ("GET", "/api/tags", None),
        ("GET", "/v1/models", None),
        ("POST", "/api/chat", {"model": "go", "messages": [user], "stream": False}),
        ("POST", "/v1/chat/completions", {"model": "go", "messages": [user]}),
        ("POST", "/v1/messages", {"model": "go", "messages": [user], "max_tokens": 1}),
    ):
        status, reply = await server.call(method, path, body)
        assert status == 500, (path, reply)
        assert "internal server error" in str(reply), path
        assert "secret" not in str(reply), path
