"""GET /api/status, GET /api/options: what this server is, stands on and takes. Ours, but for `cloud`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.config import Settings
from corral.options import OPTIONS, defaults
from corral.runner.launch import engine_identity
from corral.sched.hostmemory import HostMemory
from corral.sched.plan import default_window
from corral.server.deps import Deps, deps_of
from corral.server.native.replies import asks, json_reply
from corral.store.files import free_bytes


async def status(request: Request) -> Response:
    """Whether cloud features are off: they always are; `?verbose=1` adds engine, host, limits and the like."""
    body: dict[str, Any] = {"cloud": {"disabled": True, "source": "env"}}
    if asks(request, "verbose"):
        body |= await run_blocking(_inside, deps_of(request))
    return json_reply(body)


async def options(request: Request) -> Response:
    """Every option of a request: type, range, meaning, and the value that holds where nobody sets one."""
    values = defaults(deps_of(request).settings.defaults)
    return json_reply({"options": [_option(name, values) for name in OPTIONS]})


def _option(name: str, values: dict[str, Any]) -> dict[str, Any]:
    spec = OPTIONS[name]
    entry: dict[str, Any] = {"name": name, "type": spec.type, "meaning": spec.meaning}
    if name in values:
        entry["default"] = values[name]
    entry |= {key: bound for key, bound in (("low", spec.low), ("high", spec.high)) if math.isfinite(bound)}
    return entry


def _inside(deps: Deps) -> dict[str, Any]:
    settings, host, devices = deps.settings, HostMemory().read(), deps.scheduler.host
    return {
        "version": deps.version,
        "engine": {"name": engine_identity("") if not settings.llama_server else Path(settings.llama_server).name},
        "host": {
            "cores": host.cores,
            "memory": {"total": host.total_bytes, "available": host.available_bytes},
            "vram": {"total": devices.device_total_bytes, "free": devices.device_free_bytes},
        },
        "server": {"pid": os.getpid(), **_resident()},
        "store": {"free": free_bytes(settings.models)},
        "limits": _limits(settings) | {"default_window": default_window(settings, devices)},
        "security": {
            "sandbox": settings.sandbox,
            "keys": bool(settings.api_keys),
            "beyond_this_machine": settings.host.host not in {"127.0.0.1", "localhost", "::1"},
        },
    }


def _limits(settings: Settings) -> dict[str, Any]:
    """0 = automatic; a keep_alive of -1 = for ever."""
    return {
        "queue": settings.max_queue,
        "loaded_models": settings.max_loaded_models,
        "slots_per_model": settings.num_parallel,
        "context_length": settings.context_length,
        "keep_alive_seconds": settings.keep_alive_s if math.isfinite(settings.keep_alive_s) else -1,
    }


def _resident() -> dict[str, int]:
    """This process's memory, where the system tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return {}
    return {"memory": pages * os.sysconf("SC_PAGE_SIZE")}
