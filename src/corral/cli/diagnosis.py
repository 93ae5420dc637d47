"""What `corral doctor` looks at: one function a part, each giving findings. Reads this machine and asks the server.

A finding is good, slow (it works, but could do better) or broken (something will fail), and names the command or
setting that mends it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import corral
from corral.cli.api import Api, ServerError, ServerNotRunning, ServerUnreachable
from corral.cli.formats import human_bytes
from corral.config import Settings
from corral.errors import CorralError
from corral.runner.environment import runner_environment

_LOW_DISK_BYTES = 5 * 10**9  # a small model and its translation
_LOW_MEMORY_BYTES = 2 * 10**9
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_CPU_INFO = Path("/proc/cpuinfo")


class State(StrEnum):
    """How it is."""

    GOOD = "ok"
    SLOW = "slow"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the screen; `mend`: what to do about it, empty when nothing is to be done."""

    part: str
    state: State
    text: str
    mend: str = ""


def examine(settings: Settings, api: Api) -> Iterator[Finding]:
    """All findings, in the order of the screen."""
    look: tuple[Callable[[Settings, Api], Iterator[Finding]], ...] = (
        _server,
        _door,
        _engine,
        _kernels,
        _sandbox,
        _processor,
        _gpus,
        _memory,
        _disk,
        _store,
    )
    for part in look:
        yield from part(settings, api)


def _server(settings: Settings, api: Api) -> Iterator[Finding]:
    url = settings.host.url
    try:
        running = api.server_version(timeout_s=5)
    except ServerNotRunning:
        yield _port(settings)
        return
    except (ServerError, ServerUnreachable) as error:
        yield Finding("server", State.BROKEN, f"{url} is taken by another program: {error}", "set CORRAL_HOST")
        return
    if running == corral.__version__:
        yield Finding("server", State.GOOD, f"corral {running} at {url}")
        return
    why = f"{url} answers as version {running}, this is {corral.__version__}"
    yield Finding("server", State.SLOW, why, "restart the server, or stop Ollama if it is that")


def _port(settings: Settings) -> Finding:
    """Nobody answers: whether this machine could listen there."""
    import socket

    host, url = settings.host.host, settings.host.url
    try:
        family, kind, _, _, address = socket.getaddrinfo(host or None, settings.host.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        text = f"nobody answers at {url}, and this machine cannot listen there: {error.strerror or error}"
        return Finding("server", State.BROKEN, text, "set CORRAL_HOST")
    return Finding("server", State.GOOD, f"not running; {url} is free", "corral serve")


def _door(settings: Settings, api: Api) -> Iterator[Finding]:
    from corral.server.door import Door

    if settings.open and not settings.api_keys:
        yield Finding("keys", State.SLOW, "anybody who reaches the port is served", "set CORRAL_API_KEYS")
    elif Door(settings).is_guarded:
        yield Finding("keys", State.GOOD, "none set: clients at private addresses only are served")
    else:
        yield Finding("keys", State.GOOD, f"{len(settings.api_keys)} set" if settings.api_keys else "this machine only")


def _engine(settings: Settings, api: Api) -> Iterator[Finding]:
    if settings.llama_server:
        found = shutil.which(settings.llama_server)
        if found:
            yield Finding("engine", State.GOOD, f"external: {found}")
        else:
            text = f"CORRAL_LLAMA_SERVER names no program: {settings.llama_server}"
            yield Finding("engine", State.BROKEN, text, "unset CORRAL_LLAMA_SERVER, or correct it")
        return
    try:
        yield Finding("engine", State.GOOD, f"xllamacpp {version('xllamacpp')}")
    except PackageNotFoundError:
        yield Finding("engine", State.BROKEN, "xllamacpp is not installed", "pip install -r requirements.lock")


def _kernels(settings: Settings, api: Api) -> Iterator[Finding]:
    from corral.cli.engine import kernels_in_use

    found = kernels_in_use(settings)
    slow = bool(found.better) and not found.made
    yield Finding("kernels", State.SLOW if slow else State.GOOD, found.text, found.better)


def _sandbox(settings: Settings, api: Api) -> Iterator[Finding]:
    if not settings.sandbox:
        yield Finding("sandbox", State.SLOW, "off: a hostile model file has your rights", "unset CORRAL_SANDBOX")
        return
    try:
        models = api.get("/api/ps?verbose=1").get("models") or []
    except CorralError:
        models = []
    missing = {name: why for model in models for name, why in _missing(model).items()}
    if missing:
        text = "; ".join(f"{name}: {why}" for name, why in missing.items())
        yield Finding("sandbox", State.SLOW, f"loaded models are not wholly confined ({text})", "a newer kernel")
    else:
        yield Finding("sandbox", State.GOOD, "on" if models else "on; a loaded model shows what of it is active")


def _missing(model: dict[str, Any]) -> dict[str, Any]:
    found = (model.get("sandbox") or {}).get("missing")
    return found if isinstance(found, dict) else {}


def _processor(settings: Settings, api: Api) -> Iterator[Finding]:
    from corral.runner.hostload import usable_cores

    flags = _cpu_flags()
    text = f"{usable_cores()} cores"
    if flags and "avx2" not in flags:
        yield Finding("processor", State.BROKEN, f"{text}, no AVX2, which the engine's wheel needs", "a llama-server")
    else:
        yield Finding("processor", State.GOOD, text + (", AVX-512 VNNI" if "avx512_vnni" in flags else ""))
    policy = _read(_HUGE_PAGES)
    if "[never]" in policy:
        text = "huge pages are off, which costs a tenth of the speed and more"
        yield Finding("processor", State.SLOW, text, f"echo madvise | sudo tee {_HUGE_PAGES}")


def _cpu_flags() -> set[str]:
    lines = (line.partition(":") for line in _read(_CPU_INFO).splitlines())
    return next((set(words.split()) for name, _, words in lines if name.strip() == "flags"), set())


def _gpus(settings: Settings, api: Api) -> Iterator[Finding]:
    from corral.runner.devices import DeviceProbe

    found = DeviceProbe(runner_environment(), settings.llama_server).read()
    if found:
        for device in found:
            free = f"{human_bytes(device.free_bytes)} of {human_bytes(device.total_bytes)} free"
            yield Finding("gpu", State.GOOD, f"{device.name} {device.description}, {free}")
    elif Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists():
        text = "there is a card that the engine cannot use: its wheel computes on the CPU"
        yield Finding("gpu", State.SLOW, text, "see README, Limits: build the engine for it")
    else:
        yield Finding("gpu", State.GOOD, "none")


def _memory(settings: Settings, api: Api) -> Iterator[Finding]:
    from corral.sched.hostmemory import HostMemory

    host = HostMemory().read()
    text = f"{human_bytes(host.available_bytes)} of {human_bytes(host.total_bytes)} available"
    if host.available_bytes < _LOW_MEMORY_BYTES:
        yield Finding("memory", State.SLOW, text, "corral ps, corral stop MODEL")
    else:
        yield Finding("memory", State.GOOD, text)


def _disk(settings: Settings, api: Api) -> Iterator[Finding]:
    place = settings.models
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    low = free < _LOW_DISK_BYTES
    state, mend = (State.SLOW, "corral prune, corral rm MODEL") if low else (State.GOOD, "")
    yield Finding("disk", state, f"{human_bytes(free)} free for {settings.models}", mend)


def _store(settings: Settings, api: Api) -> Iterator[Finding]:
    import os

    from corral.store.care import unused_bytes
    from corral.store.models import ModelStore

    if not settings.models.is_dir():
        yield Finding("store", State.GOOD, "empty", "corral pull smollm2:135m")
        return
    if not os.access(settings.models, os.W_OK):
        yield Finding("store", State.SLOW, "cannot be written by you: models can be run, not pulled", "CORRAL_MODELS")
    store = ModelStore.of(settings)
    rows = store.list()
    bad = [row for row in rows if row.problem]
    for row in bad:
        yield Finding("store", State.BROKEN, f"{row.name.short}: {row.problem}", f"corral pull {row.name.short}")
    unused = unused_bytes(store)
    text = f"{len(rows) - len(bad)} models, {human_bytes(sum(row.size_bytes for row in rows))}"
    text += f"; {human_bytes(unused)} of parts that no model uses" if unused else ""
    yield Finding("store", State.GOOD, text, "corral prune" if unused else "")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
