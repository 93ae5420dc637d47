"""What a server takes that nobody asks for anything, and that hands out its page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.e2e.conftest import start_server
from tests.fakes.processes import resident_bytes

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")]
MOST_BYTES = 80 * 10**6
PAGE = ("/ui", "/ui/app.js", "/ui/style/base.css", "/ui/chat/room.js", "/ui/vendor/lit-html/lit-html.js")


def test_an_idle_server_takes_80_mb_and_its_page_next_to_nothing(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    try:
        idle = resident_bytes(server.pid)
        for path in PAGE:
            server.request("GET", path)
        with_page = resident_bytes(server.pid)
        libraries = Path(f"/proc/{server.pid}/maps").read_text()
    finally:
        server.stop()
    assert idle <= MOST_BYTES
    assert with_page <= MOST_BYTES
    for name in ("cryptography", "PIL"):  # large, and wanted by few servers
        assert f"/site-packages/{name}" not in libraries
