"""Models that tests make on a running server, through its API: upload the files, create, delete at the end."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol


class Server(Protocol):
    """What is needed of tests.e2e.conftest.ServerProcess."""

    @property
    def url(self) -> str:
        """Base URL."""

    def post(self, path: str, body: Any) -> Any:
        """POST without streaming."""

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One JSON request."""


@contextmanager
def made(server: Server, name: str, files: Mapping[str, Path] | None = None, **fields: Any) -> Iterator[str]:
    """A model created from `files` (or from `from_`, with other create fields); gives its name."""
    body = {("from" if key == "from_" else key): value for key, value in fields.items()}
    if files:
        body["files"] = {key: upload(server, path) for key, path in files.items()}
    assert server.post("/api/create", {"model": name, **body}) == {"status": "success"}
    try:
        yield name
    finally:
        server.post("/api/generate", {"model": name, "keep_alive": 0})
        server.request("DELETE", "/api/delete", {"model": name})


def upload(server: Server, path: Path) -> str:
    """Put a file into the server's blobs; returns its digest."""
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    request = urllib.request.Request(f"{server.url}/api/blobs/{digest}", data, method="POST")
    with urllib.request.urlopen(request, timeout=120):
        return digest


def refused(server: Server, path: str, body: Mapping[str, Any]) -> tuple[int, str]:
    """(status, error text) of a request that must fail."""
    try:
        answer = server.post(path, body)
    except urllib.error.HTTPError as error:
        with error:
            found = json.loads(error.read())["error"]
        return error.code, found if isinstance(found, str) else found["message"]
    raise AssertionError(f"{path} answered {answer}")
