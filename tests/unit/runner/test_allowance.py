"""What a runner may take of the host's memory: what was planned, and room that its own stores do not fill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from corral.runner.allowance import AGAIN_SHARE, ROOM_BYTES, allow
from corral.runner.spec import LaunchOptions, Planned, RunnerSpec

MIB, GIB = 2**20, 2**30
OPTIONS = LaunchOptions(Path("/run"))
SPEC = RunnerSpec(Path("/m"), num_parallel=4)


def test_what_was_planned_and_a_gib_of_room_whatever_the_size() -> None:
    assert allow(OPTIONS, SPEC, Planned(300 * MIB)).memory_limit_bytes == 300 * MIB + GIB
    assert allow(OPTIONS, SPEC, Planned(40 * GIB)).memory_limit_bytes == 41 * GIB


def test_nothing_planned_is_no_limit() -> None:
    assert allow(OPTIONS, SPEC, Planned()) == OPTIONS


def test_the_owners_room_is_taken_as_it_is() -> None:
    options = allow(replace(OPTIONS, memory_room_bytes=100 * MIB), SPEC, Planned(GIB))
    assert options.memory_limit_bytes == GIB + 100 * MIB
    assert options.prompt_cache_mib == 50


def test_an_image_encoder_gets_room_of_its_own() -> None:
    plain = allow(OPTIONS, SPEC, Planned(GIB))
    sees = allow(OPTIONS, replace(SPEC, projector_paths=(Path("/p"),)), Planned(GIB))
    assert sees.memory_limit_bytes == plain.memory_limit_bytes + GIB


@pytest.mark.parametrize("planned_gib", [0.3, 1, 4, 16, 80])
@pytest.mark.parametrize("checkpoint_mib", [0, 1, 12, 121, 400])
def test_the_engines_own_stores_never_bring_a_runner_to_its_limit(planned_gib: float, checkpoint_mib: int) -> None:
    planned = Planned(int(planned_gib * GIB), checkpoint_mib * MIB, 3)
    options = allow(OPTIONS, SPEC, planned)
    extra_states = (options.checkpoints - planned.least_checkpoints) * planned.checkpoint_bytes * SPEC.num_parallel
    room = ROOM_BYTES
    assert options.prompt_cache_mib * MIB + extra_states <= room - room // AGAIN_SHARE
    assert 3 <= options.checkpoints <= 32
