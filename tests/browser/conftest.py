"""A real Chromium against real servers: one with scripted engines in a thread of this process, one of its own process.

Every page that a test opens fails it when something is written to its console as an error, when its code raises, or
when it asks another origin for anything.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright
from tests.e2e.conftest import ServerProcess, start_server
from tests.fakes.runner import FakeEngine
from tests.fakes.server import CHATML, JINJA, RunningServer, running_server
from tests.fakes.stores import add_model

from corral.store.models import ModelStore

T = TypeVar("T")
PATIENCE_MS = 20_000  # other work may have the cores
expect.set_options(timeout=PATIENCE_MS)
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
AXE = ROOT / "build" / "axe" / "axe.min.js"
FLAGS = (
    "--no-sandbox",  # as root there is no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TO_WEBP = """async (png) => {
    const image = new Image();
    image.src = png;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height});
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", 0.85);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a file: as long as it is there, playwright's event loop keeps out pytest's."""
    if not CHROMIUM:
        pytest.skip("no chromium: scripts/system-packages chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Visits:
    """Pages that are watched; `allowed`: beginnings of console errors that a test expects."""

    browser: Browser
    problems: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, url: str, *, width: int = 1200, height: int = 800, **options: Any) -> Page:
        """A page in a context of its own: no storage, no cache."""
        context = self.browser.new_context(viewport={"width": width, "height": height}, **options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        origin = url.split("/ui")[0] + "/"
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"raised: {error}"))
        page.on("request", lambda request: self._request(request, origin))
        page.goto(url)
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(self.allowed or ("\0",)):
            self.problems.append(message.text)

    def _request(self, request: Request, origin: str) -> None:
        if not request.url.startswith((origin, "data:", "blob:")):
            self.problems.append(f"asked {request.url}")

    def close(self) -> None:
        """End all pages; what went wrong in them fails the test."""
        for context in self.contexts:
            context.close()
        assert self.problems == []


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Opens pages, and closes them at the end."""
    visits = Visits(browser)
    yield visits
    visits.close()


@dataclass
class Scripted:
    """The real app on scripted engines, on a loop in another thread."""

    running: RunningServer
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        """The page's address."""
        return self.running.url + "/ui"

    @property
    def engine(self) -> FakeEngine:
        """What the runners say."""
        return self.running.engine

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's loop, and wait for it."""
        return self.begin(work).result(60)

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def hold(self) -> Callable[[], None]:
        """Answers stop after their first piece, until what is returned is called."""
        gate = self.run(_gate())
        self.engine.gate = gate

        def let_go() -> None:
            self.loop.call_soon_threadsafe(gate.set)

        return let_go


async def _gate() -> asyncio.Event:
    return asyncio.Event()


@contextlib.contextmanager
def scripted_server(folder: Path, **settings: Any) -> Iterator[Scripted]:
    """A server with the models `go`, rendered here, and `jinja`, by the engine."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server")
    thread.start()
    stack = contextlib.AsyncExitStack()

    async def start() -> RunningServer:
        return await stack.enter_async_context(running_server(folder, **settings))

    try:
        scripted = Scripted(asyncio.run_coroutine_threadsafe(start(), loop).result(30), loop)
        scripted.running.add("go", texts={"template": CHATML})
        scripted.running.add("jinja", jinja=JINJA)
        yield scripted
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Scripted]:
    """A scripted server of the test's own."""
    with scripted_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[ServerProcess]:
    """`corral serve` in a process of its own, with SmolLM2 and Gemma 3."""
    folder = tmp_path_factory.mktemp("real")
    store = ModelStore(folder / "models")
    smol = add_model(
        store, "smollm2:135m", models_dir / "smollm2.gguf", parameters={"temperature": 0.0, "num_predict": 160}
    )
    store.copy(smol, store.resolve("writer"))
    add_model(store, "gemma3:270m", models_dir / "gemma3.gguf")
    server = start_server(folder, env={"CORRAL_TUNE": "off"})
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's source, fetched by `make browser`."""
    if not AXE.exists():
        pytest.skip("axe-core is not in build/axe: make browser fetches it")
    return AXE.read_text(encoding="utf-8")


def check_accessibility(page: Page, axe: str) -> None:
    """No rule of axe-core is broken by what the page shows now."""
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found] == []


def say(page: Page, text: str) -> None:
    """Send a message in the room Chat."""
    page.wait_for_selector(".composer button.send:enabled")
    page.fill("#say", text)
    page.press("#say", "Enter")


def picture(page: Page, name: str) -> None:
    """Renew a picture of the docs, as WebP: a quarter of PNG's size."""
    png = base64.b64encode(page.screenshot()).decode()
    with contextlib.closing(page.context.browser.new_page()) as empty:  # type: ignore[union-attr]
        webp = empty.evaluate(TO_WEBP, f"data:image/png;base64,{png}")
    target = ROOT / "docs" / "pictures" / f"{name}.webp"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(base64.b64decode(webp.partition(",")[2]))
