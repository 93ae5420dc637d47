"""`Deps`: what handlers work with, made once by serve.py (or a test) and handed to `create_app`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from starlette.requests import Request

from corral.config import Settings
from corral.create.flow import Creator
from corral.inference import Inference
from corral.registry.service import Registry
from corral.runner.enginefiles import EngineFiles
from corral.sched import Scheduler
from corral.server.holders import Holders
from corral.server.relay import Relay
from corral.server.tuning import TuningService
from corral.store.models import ModelStore

if TYPE_CHECKING:
    from corral.server.openai.batches.lane import BatchLane  # whose package needs this module


@dataclass(frozen=True, slots=True)
class Deps:
    """The parts of a running server."""

    settings: Settings
    store: ModelStore
    scheduler: Scheduler
    registry: Registry
    creator: Creator
    inference: Inference
    tuning: TuningService
    files: EngineFiles
    holders: Holders
    batches: BatchLane
    relay: Relay
    version: str


def deps_of(request: Request) -> Deps:
    """The Deps of the app that serves this request."""
    return cast("Deps", request.app.state.deps)
