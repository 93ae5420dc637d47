"""POST /api/show with `remote`, GET /api/catalog: models not here yet, and whether they would run. Ours."""

from __future__ import annotations

import contextlib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from corral.aio import run_blocking
from corral.core import Capability
from corral.errors import CorralError
from corral.gguf import GGUFHeader
from corral.registry.catalog import CATALOG, CatalogModel
from corral.registry.remote import RemoteModel
from corral.registry.service import catalog_entry
from corral.sched.hostmemory import HostMemory
from corral.sched.memory import SLOT_CHOICES, ModelFacts, estimate
from corral.sched.plan import window_for
from corral.server.deps import Deps
from corral.server.native.replies import json_reply
from corral.store.manifests import PROJECTOR
from corral.translate.heading import engine_header

_BATCH = 64  # tokens of an engine step, about what a CPU gets


async def catalog(request: Request) -> Response:
    """The models that are known by a short name and come from a package index."""
    return json_reply({"models": [_entry(model) for model in CATALOG.values()]})


async def describe(deps: Deps, reference: str, *, insecure: bool) -> dict[str, Any]:
    """What pulling `reference` would fetch and what would come of it. Raises InvalidModelName, RegistryError."""
    entry = catalog_entry(reference)
    if entry is not None:
        return {**_entry(entry), "verdict": {"runs": True}}
    facts: list[ModelFacts] = []

    def look(header: GGUFHeader) -> None:
        with contextlib.suppress(CorralError):  # the verdict says why it cannot be translated
            facts.append(ModelFacts.from_header(engine_header(header)))

    remote = await deps.registry.remote(reference, insecure=insecure, on_header=look)
    body = _remote(remote)
    if facts and facts[-1].weights_bytes:
        body["memory"] = await run_blocking(_memory, deps, remote, facts[-1])
    return body


def _entry(model: CatalogModel) -> dict[str, Any]:
    entry = {"name": model.name, "size": model.size_bytes, "license": model.license, "source": "package index"}
    more = {"aliases": list(model.aliases), "about": model.about}
    return entry | {key: value for key, value in more.items() if value}


def _remote(remote: RemoteModel) -> dict[str, Any]:
    verdict = remote.verdict
    senses = {Capability.VISION: verdict.sees, Capability.AUDIO: verdict.hears}
    body: dict[str, Any] = {
        "name": remote.name.short,
        "digest": remote.digest,
        "size": remote.size_bytes,
        "source": "registry",
        "details": {
            "format": remote.config.model_format,
            "family": remote.architecture,
            "parameter_size": remote.parameter_size,
            "quantization_level": remote.quantization_level,
            "context_length": remote.context_length,
            "embedding_length": remote.embedding_length,
        },
        "layers": [
            {"media_type": layer.media_type, "digest": str(layer.digest), "size": layer.size} for layer in remote.layers
        ],
        "verdict": {
            "runs": verdict.runs,
            **({"why_not": verdict.why_not} if verdict.why_not else {}),
            **({"capabilities": [name for name, has in senses.items() if has]} if any(senses.values()) else {}),
            **({"translated": True} if verdict.is_translated else {}),
        },
    }
    return body | {key: text for key, text in remote.texts.items() if text}


def _memory(deps: Deps, remote: RemoteModel, facts: ModelFacts) -> dict[str, Any]:
    """What it would take with the window that a load without options gets, and what there is."""
    host = HostMemory().read()
    projectors = sum(layer.size for layer in remote.layers if layer.media_type == PROJECTOR)
    window = window_for({}, facts, deps.settings, deps.scheduler.host, has_vision=remote.verdict.sees)
    tiles = deps.scheduler.host.tiles
    need = estimate(facts, context_window=window, slots=SLOT_CHOICES[-1], n_batch=_BATCH, tiles=tiles)
    devices = deps.scheduler.host.device_total_bytes
    return {
        "needed": need.needed_bytes + projectors,
        "context_length": window,
        "kv_cache_per_token": need.kv_bytes_per_token,
        "available": host.available_bytes,
        "total": host.total_bytes,
        "vram": devices,
        "fits": need.needed_bytes + projectors <= host.available_bytes + devices,
    }
