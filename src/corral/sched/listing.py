"""The scheduler's records as the rows that /api/ps and GET /api/requests show. Pure, but for the wall clock."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta

from corral.sched.estimate import Place
from corral.sched.launch import Handle
from corral.sched.live import LiveRunner
from corral.sched.request import Lease, LoadedModel, RequestInfo
from corral.sched.state import Held, Runner

_FOREVER_S = (2**63 - 1) / 1e9  # the longest of Go's durations: about 292 years


def describe_runner(runner: Runner, live: LiveRunner | None, now: float) -> LoadedModel:
    """One runner; sizes as measured, and as estimated until then."""
    handle = live.handle if live else None
    left_s = runner.expires_at(now) - now
    parts = _measured(handle) or _estimated(runner)
    ready = runner.state == "ready"
    size = parts["weights"] + parts["kv_cache"] + parts["compute"]
    return LoadedModel(
        name=runner.name,
        key=runner.key,
        digest=runner.digest,
        details=runner.details,
        state=runner.state,
        size_bytes=size,
        size_vram_bytes=parts["vram"],
        context_window=runner.context_window or runner.spec.context_window,
        expires_at=datetime.now().astimezone() + timedelta(seconds=min(left_s, _FOREVER_S)),
        slots=runner.slots,
        active=len(runner.leases),
        pid=handle.pid if handle else None,
        sandbox=asdict(handle.info.sandbox) if handle else {},
        kernels=handle.info.kernels if handle else "",
        huge_pages=bool(handle and handle.info.huge_pages),
        memory=parts,
        prompts=live.prompts() if live else {},
        planned=_planned(runner),
        build=handle.info.build if handle else "",
        spec=runner.spec,
        launched=handle.spec if handle else None,
        runner_id=runner.id,
        node=runner.node,
        load_s=runner.ready_at - runner.load_started if ready else 0.0,
        age_s=now - runner.ready_at if ready else 0.0,
        idle_s=now - runner.last_used if runner.is_idle else 0.0,
    )


def _measured(handle: Handle | None) -> dict[str, int]:
    memory = handle.info.memory if handle else None
    if memory is None or not memory.weights_bytes:
        return {}
    return {
        "weights": memory.weights_bytes,
        "kv_cache": memory.kv_cache_bytes,
        "compute": memory.compute_bytes,
        "rss": memory.rss_bytes,
        "vram": memory.device_bytes,
    }


def _planned(runner: Runner) -> dict[str, int]:
    need = runner.need
    weights = need.weights_bytes + need.mapped_bytes + need.projector_bytes + need.adapter_bytes
    return {
        "weights": weights,
        "kv_cache": need.kv_cache_bytes,
        "compute": need.compute_bytes,
        "total": need.total_bytes,
    }


def _estimated(runner: Runner) -> dict[str, int]:
    need = runner.need
    weights, cache, compute = need.weights_bytes + need.mapped_bytes, 0, 0
    if runner.state != "loading":  # "before figures are known: model file size" (spec native-api 1.6)
        weights += need.projector_bytes + need.adapter_bytes
        cache, compute = need.kv_cache_bytes, need.compute_bytes
    vram = round((weights + cache + compute) * need.gpu_share)
    return {"weights": weights, "kv_cache": cache, "compute": compute, "vram": vram}


def describe_request(entry: Held | Place, lease: Lease | None, now: float) -> RequestInfo:
    """One request, running or waiting."""
    if isinstance(entry, Place):
        waiter, progress = entry.waiter, entry.progress
        want = waiter.want
        return RequestInfo(
            id=waiter.id,
            model=want.name,
            client=want.caller.client,
            route=want.caller.route,
            priority=want.caller.priority,
            state="queued" if progress.stage == "queued" else "loading",
            position=progress.position,
            wait_s=progress.wait_s,
            waited_s=now - waiter.arrived,
            running_s=0.0,
        )
    return RequestInfo(
        id=entry.request_id,
        model=entry.want.name,
        client=entry.want.caller.client,
        route=entry.want.caller.route,
        priority=entry.want.caller.priority,
        state="running",
        position=0,
        wait_s=0.0,
        waited_s=entry.started - entry.arrived,
        running_s=now - entry.started,
        prompt_tokens=lease.prompt_tokens if lease else 0,
        processed_tokens=lease.processed_tokens if lease else 0,
        cached_tokens=lease.cached_tokens if lease else 0,
        eval_tokens=lease.eval_tokens if lease else 0,
    )
