"""A whole server in this process: the real app on a real loopback uvicorn, with fake runners below the scheduler."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from tests.fakes.ggufs import make_gguf
from tests.fakes.runner import FakeEngine, FakeLauncher
from tests.fakes.stores import add_model

from corral.address import Address
from corral.aio import run_blocking
from corral.config import Settings
from corral.server.app import create_app
from corral.server.deps import Deps
from corral.server.listen import LimitedProtocol, QuietServer, bind
from corral.server.serve import make_deps

CHATML = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"


@dataclass
class RunningServer:
    """The server under test and everything that a test may look at or turn."""

    url: str
    port: int
    deps: Deps
    launcher: FakeLauncher
    http: aiohttp.ClientSession
    app: Starlette

    @property
    def engine(self) -> FakeEngine:
        """What the runners do."""
        return self.launcher.engine

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """(status, decoded JSON or text); a body that is no str or bytes is sent as JSON."""
        if body is not None:
            options["data" if isinstance(body, str | bytes) else "json"] = body
        async with self.http.request(method, self.url + path, **options) as answer:
            if "json" in answer.content_type and "nd" not in answer.content_type:
                return answer.status, await answer.json()
            return answer.status, await answer.text()

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """POST without streaming."""
        return await self.call("POST", path, {"stream": False, **body})

    async def lines(self, path: str, body: Any) -> list[dict[str, Any]]:
        """POST with streaming: every line, decoded."""
        async with self.http.post(self.url + path, json=body) as answer:
            assert answer.status == 200, await answer.text()
            return [json.loads(line) async for line in answer.content if line.strip()]

    async def until_idle(self) -> None:
        """Until no request is left in the scheduler."""
        async with asyncio.timeout(10):
            while self.deps.scheduler.requests():
                await asyncio.sleep(0.005)

    def add(self, name: str, *, jinja: str = "", metadata: Mapping[str, Any] | None = None, **layers: Any) -> None:
        """Put a model into the store: a GGUF header with `metadata`, layers as for add_model. Blocking."""
        root = self.deps.store.root
        root.mkdir(parents=True, exist_ok=True)
        values: dict[str, Any] = {"llama.context_length": 4096, **(metadata or {})}
        if jinja:
            values["tokenizer.chat_template"] = jinja
        gguf = make_gguf(root / "made.gguf", "llama", values, {"w": (2, 2)})
        add_model(self.deps.store, name, gguf, **layers)
        gguf.unlink()


@asynccontextmanager
async def running_server(
    folder: Path, engine: FakeEngine | None = None, **settings: Any
) -> AsyncIterator[RunningServer]:
    """A server with an empty store below `folder`; settings by their field names."""
    launcher = FakeLauncher(engine)
    places = {"host": Address(port=0), "models": folder / "models", "home": folder / "home"}
    chosen = Settings(**{**places, **settings})
    deps = make_deps(chosen, launcher)
    await deps.scheduler.start()
    listener = bind(chosen.host)
    port = listener.getsockname()[1]
    app = create_app(deps)
    await deps.batches.start(app)
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with aiohttp.ClientSession() as session:
            while not server.started:
                await asyncio.sleep(0.005)
            yield RunningServer(f"http://127.0.0.1:{port}", port, deps, launcher, session, app)
    finally:
        server.stop()
        await serving
        await deps.batches.close()
        await deps.relay.close()
        await deps.scheduler.close()
        await deps.registry.close()
        await deps.files.close()
        await run_blocking(deps.inference.close)
        listener.close()
