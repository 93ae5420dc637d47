"""`serve`: from settings to a running server and back. Called by `corral serve`.

Start: bind, so that a taken port fails first; clean the store; start the scheduler; listen. Stop (SIGINT, SIGTERM):
take no new connections, let requests in flight end for `drain_timeout_s`, cancel what is left, stop all runners. A
second signal skips the wait. SIGUSR1 switches debug logging on and off.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from corral import __version__
from corral.aio import run_blocking
from corral.config import Settings
from corral.core import Common, TransferStatus
from corral.create.flow import Creator
from corral.create.request import CreateRequest
from corral.errors import CorralError, StoreNotWritable
from corral.inference import Inference
from corral.names import Digest, ModelName
from corral.registry.service import Registry
from corral.runner.enginefiles import EngineFiles
from corral.runner.launch import LocalLauncher
from corral.sched import Launcher, Remembered, Scheduler
from corral.sched.hostmemory import HostMemory
from corral.sched.launch import NodeSource
from corral.server.app import create_app
from corral.server.deps import Deps
from corral.server.door import AT_START, Door
from corral.server.holders import Holders, holders_of
from corral.server.kernelwork import make_when_idle
from corral.server.listen import LimitedProtocol, QuietServer, bind
from corral.server.memory import give_memory_back, spare_collector
from corral.server.openai.batches.lane import BatchLane
from corral.server.openai.responses.store import forget_strangers
from corral.server.relay import Relay
from corral.server.renewal import Renewal
from corral.server.tuning import TuningService
from corral.store.care import prune_at_start
from corral.store.files import make_directory
from corral.store.models import ModelStore

log = logging.getLogger(__name__)

_LAST_WORDS_S = 2.0  # for the answers that were ended to reach their clients
_SWITCH_S = 0.001  # the loop waits so long for each thread that computes, several times a request; Python's are 5 ms
_KEEP_ALIVE_S = 120  # longer than clients keep idle connections, so that it is they who close them


def serve(settings: Settings) -> int:
    """Run until told to stop; the exit status.

    Raises OSError when the address is taken, CorralError for settings that cannot be.
    """
    set_up_logging(settings)
    give_memory_back()
    sys.setswitchinterval(_SWITCH_S)
    make_directory(settings.home)
    listener = bind(settings.host)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, listener))


def set_up_logging(settings: Settings) -> None:
    """Log lines to stderr; debug when asked for."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("corral").setLevel(logging.DEBUG if settings.debug else logging.INFO)
    for name in ("uvicorn.error", "uvicorn.access", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for notice in settings.notices:
        log.warning("%s", notice)


def make_deps(
    settings: Settings,
    launcher: Launcher,
    host_memory: HostMemory | None = None,
    files: EngineFiles | None = None,
    holders: Holders | None = None,
    cluster: NodeSource | None = None,
) -> Deps:
    """The parts of a server, not started yet; host_memory: None = without looking for GPUs. files: the launcher's.

    cluster: whose nodes the launcher's runners are on; None = they are here.
    """
    files = files or make_files(settings)
    store = files.store
    scheduler = Scheduler(settings, launcher, host_memory=host_memory, cluster=cluster)

    async def make(name: str, files: Mapping[str, Path]) -> AsyncGenerator[TransferStatus, None]:
        """What a package index's wheel holds becomes a model the way create makes one."""
        async for status in creator.create(await run_blocking(_create_request, name, files)):
            yield status

    registry = Registry(store, settings, make)
    creator = Creator(store, registry.pull)
    inference = Inference(store, scheduler, settings)
    tuning = TuningService(launcher, scheduler, inference, host_memory)
    holders = holders or holders_of(settings)
    batches = BatchLane(settings, holders, lambda: len(scheduler.nodes.rows()))
    return Deps(
        settings=settings,
        store=store,
        scheduler=scheduler,
        registry=registry,
        creator=creator,
        inference=inference,
        tuning=tuning,
        files=files,
        holders=holders,
        batches=batches,
        relay=Relay(store, registry, settings.share_upstream),
        version=__version__,
    )


def make_files(settings: Settings) -> EngineFiles:
    """The settings' store with the translated files of its models; loads and transfers share the making of them."""
    return EngineFiles(ModelStore.of(settings), lambda: HostMemory().read().available_bytes)


def _create_request(name: str, files: Mapping[str, Path]) -> CreateRequest:
    digests = {file: str(Digest.parse(path.name)) for file, path in files.items() if file != "LICENSE"}
    license_text = files["LICENSE"].read_text(errors="replace") if "LICENSE" in files else ""
    return CreateRequest(ModelName.parse(name), files=digests, license=(license_text,) if license_text else ())


async def _serve(settings: Settings, listener: socket.socket) -> int:
    files = make_files(settings)
    try:
        holders = await run_blocking(holders_of, settings)
        if settings.cluster:
            await _serve_cluster(settings, files, holders, listener)
        else:
            await _serve_here(settings, files, holders, listener)
    finally:
        listener.close()
    return 0


async def _serve_here(settings: Settings, files: EngineFiles, holders: Holders, listener: socket.socket) -> None:
    """With runners on this machine."""
    launcher = await run_blocking(LocalLauncher, settings, files)
    try:
        deps = make_deps(settings, launcher, HostMemory.of(launcher, settings), files, holders)
        await _run(deps, listener, _idle_work(deps, launcher))
    finally:
        await run_blocking(launcher.close)


async def _serve_cluster(settings: Settings, files: EngineFiles, holders: Holders, listener: socket.socket) -> None:
    """With runners on the nodes of a cluster."""
    from corral.cluster.launcher import ClusterLauncher  # what is not asked for is not imported

    launcher = ClusterLauncher(settings, files.store.blobs)
    try:
        deps = make_deps(settings, launcher, None, files, holders, launcher)
        await launcher.start(deps.scheduler.nodes)
        await _run(deps, listener, asyncio.sleep(0))
    finally:
        await launcher.close()


async def _run(deps: Deps, listener: socket.socket, idle: Coroutine[Any, Any, None]) -> None:
    """Until told to stop. idle: what is done while nobody wants anything."""
    app = create_app(deps)
    spare_collector()
    await run_blocking(_clean_store, deps.store)
    if deps.holders:
        for folder in ("responses", "files", "batches"):
            await run_blocking(forget_strangers, deps.settings.home / folder, deps.holders.ids)
    await deps.scheduler.start(lambda model: _load(deps, model))
    await deps.batches.start(app)
    idle_work = asyncio.create_task(idle)
    try:
        await _listen(deps, app, listener)
    finally:
        idle_work.cancel()
        await asyncio.wait({idle_work})
        await deps.batches.close()
        await deps.relay.close()
        await deps.scheduler.close()
        await deps.registry.close()
        await deps.files.close()
        await run_blocking(deps.inference.close)


async def _idle_work(deps: Deps, launcher: LocalLauncher) -> None:
    """What is done while nobody wants anything, until cancelled."""

    async def logged(work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            log.exception("work while idle has ended")

    async with asyncio.TaskGroup() as group:
        group.create_task(logged(Renewal(launcher, deps.scheduler).run()))
        group.create_task(logged(make_when_idle(deps.settings, deps.scheduler, launcher)))
        if deps.settings.tune != "off":
            group.create_task(logged(deps.tuning.run_when_idle()))


async def _listen(deps: Deps, app: object, listener: socket.socket) -> None:
    drain_s = deps.settings.drain_timeout_s
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=None if math.isinf(drain_s) else math.ceil(drain_s + _LAST_WORDS_S),
    )
    server = QuietServer(config)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        server.stop()
        stopping.set()

    async def end_transfers() -> None:
        """A transfer is resumable and may take hours, a translation is made anew: they do not hold up the end."""
        await stopping.wait()
        await deps.batches.close()
        await deps.relay.close()
        await deps.registry.close()
        await deps.files.close()

    async def end_answers() -> None:
        """What has not ended by then ends with an error that the client can read, not with a closed connection."""
        await stopping.wait()
        if not math.isinf(drain_s):
            await asyncio.sleep(drain_s)
            await deps.scheduler.close()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGUSR1, _toggle_debug)
    host, port = listener.getsockname()[:2]
    log.info("corral %s listens on %s:%d, models in %s", deps.version, host, port, deps.settings.models)
    if Door(deps.settings).is_guarded:
        log.warning("%s", AT_START)
    async with asyncio.TaskGroup() as group:
        ending = [group.create_task(work) for work in (end_transfers(), end_answers())]
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in ending:
                task.cancel()


def _clean_store(store: ModelStore) -> None:
    try:
        store.check_writable()
        prune_at_start(store)
    except StoreNotWritable as error:
        log.warning("%s; its models can be used, but none pulled, created, copied or deleted", error)
    except (CorralError, OSError) as error:
        log.warning("the store could not be cleaned: %s", error)


async def _load(deps: Deps, model: Remembered) -> None:
    await deps.inference.load(Common(model=model.name, keep_alive_s=model.keep_alive_s))


def _toggle_debug() -> None:
    logger = logging.getLogger("corral")
    logger.setLevel(logging.INFO if logger.level == logging.DEBUG else logging.DEBUG)
    log.info("log level is %s", logging.getLevelName(logger.level))
