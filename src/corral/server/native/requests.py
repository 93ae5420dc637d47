"""A look into the server, ours: requests in flight and their end, /metrics, the log level."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.requests import Request
from starlette.responses import Response

from corral.api.native_replies import encode
from corral.errors import InvalidRequest, RequestNotFound
from corral.sched import Scheduler
from corral.server.body import read_object
from corral.server.callers import owner_of
from corral.server.deps import deps_of
from corral.server.native.replies import json_reply

_LEVELS = ("debug", "info", "warning", "error")


async def list_requests(request: Request) -> Response:
    """Requests that wait or run: place in line, estimated wait, time and tokens so far. With keys, only one's own."""
    rows = deps_of(request).scheduler.requests(owner_of(request))
    return json_reply({"requests": [asdict(row) for row in rows]})


async def cancel_request(request: Request) -> Response:
    """End a request of one's own; its client gets `request canceled`."""
    request_id = request.path_params["id"]
    if not deps_of(request).scheduler.cancel(request_id, owner_of(request)):
        raise RequestNotFound(request_id)
    return Response()


async def metrics(request: Request) -> Response:
    """Prometheus text: the use cases' counters, and what the scheduler holds now."""
    deps = deps_of(request)
    lines = generate_latest(deps.inference.telemetry.registry) + generate_latest(_Now(deps.scheduler))
    return Response(lines, media_type=CONTENT_TYPE_LATEST)


async def read_log_level(request: Request) -> Response:
    """The level in force."""
    return json_reply({"level": logging.getLevelName(logging.getLogger("corral").getEffectiveLevel()).lower()})


async def write_log_level(request: Request) -> Response:
    """Change the level of the running server: `{"level":"debug"}`."""
    level = (await read_object(request)).get("level")
    if level not in _LEVELS:
        raise InvalidRequest(f"level must be one of {', '.join(_LEVELS)}", field="level")
    logging.getLogger("corral").setLevel(level.upper())
    return Response(encode({"level": level}), media_type="application/json; charset=utf-8")


class _Now:
    """What the scheduler holds at this moment, as a Prometheus collector."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Gauges of runners and requests."""
        rows = self._scheduler.loaded()
        size = GaugeMetricFamily("corral_model_bytes", "Memory of a loaded model", labels=["model"])
        active = GaugeMetricFamily("corral_model_active", "Slots in use", labels=["model"])
        slots = GaugeMetricFamily("corral_model_slots", "Slots of a loaded model", labels=["model"])
        for row in rows:
            size.add_metric([row.name], row.size_bytes)
            active.add_metric([row.name], row.active)
            slots.add_metric([row.name], row.slots)
        states = GaugeMetricFamily("corral_requests", "Requests by state", labels=["state"])
        found = [row.state for row in self._scheduler.requests()]
        for state in ("queued", "loading", "running"):
            states.add_metric([state], found.count(state))
        loaded = GaugeMetricFamily("corral_models_loaded", "Loaded models", value=len(rows))
        return [loaded, size, active, slots, states]
