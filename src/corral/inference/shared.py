"""`Shared`: what every use case works with. Made once by service.py."""

from __future__ import annotations

from dataclasses import dataclass, field

from corral.config import Settings
from corral.constraint.trial import Trial
from corral.inference.badtemplates import BadTemplates
from corral.inference.telemetry import Telemetry
from corral.inference.windows import Windows
from corral.sched import Scheduler
from corral.store.models import ModelStore


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts below the use cases."""

    store: ModelStore
    scheduler: Scheduler
    settings: Settings
    telemetry: Telemetry
    trial: Trial  # compiles every grammar before an engine gets it
    bad_templates: BadTemplates = field(default_factory=BadTemplates)
    windows: Windows = field(default_factory=Windows)
