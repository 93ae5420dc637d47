"""Nothing that a server or a command makes is writable for others, whatever the umask it was started with."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.server import running_server

from corral.cli.history import History
from corral.registry.keys import load_identity
from corral.server.serve import _clean_store
from corral.store.models import ModelStore


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def writable_by_others(root: Path) -> list[Path]:
    return [path for path in (root, *root.rglob("*")) if path.lstat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)]


async def test_a_servers_folders_and_files(tmp_path: Path) -> None:
    for store in (tmp_path / "models", tmp_path / "server" / "models"):
        _clean_store(ModelStore(store))
    load_identity(tmp_path / "home")
    History(tmp_path / "cli" / "history", saving=True).add("hello")
    async with running_server(tmp_path / "server") as server:
        server.add("m")
        assert (await server.post("/api/copy", {"source": "m", "destination": "n"}))[0] == 200
        body = {"model": "m", "input": "hi", "max_output_tokens": 1}
        assert (await server.call("POST", "/v1/responses", body))[0] == 200
        await server.deps.scheduler.close()
        assert writable_by_others(tmp_path / "server" / "home") == []
        made = [path for path in writable_by_others(tmp_path / "server" / "models") if path.suffix != ".gguf"]
        assert made == []
    for place in ("models", "home", "cli"):
        assert writable_by_others(tmp_path / place) == [], place
