"""Windows that grow with a prompt: which, with how many slots, and that a runner is loaded anew for one once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sched.test_plan import build, planned
from tests.unit.sched.world import World

from corral.config import Settings
from corral.sched.growth import fitting, room_for, windows_for
from corral.sched.memory import DeviceFigures, HostFigures, Room
from corral.sched.plan import LaunchPlan
from corral.sched.request import LoadedModel
from corral.store.model import Model

GIB = 2**30
CLAUDE_CODES_FIRST = 11_500 + 2048  # its first prompt, and room for an answer


@dataclass
class Loaded:
    key: str
    size_bytes: int
    size_vram_bytes: int = 0


def room(host: HostFigures, *runners: Loaded) -> Room:
    return room_for("/m", cast("list[LoadedModel]", list(runners)), host)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Eight billion parameters' worth of cache: 128 KiB a token; trained on 32,768."""
    return build(tmp_path, trained=32768)


def grown(model: Model, needed: int, host: HostFigures, *runners: Loaded, **wish: Any) -> LaunchPlan | None:
    for window in windows_for(needed, 32768):
        launch = fitting(planned(model, host=host, least_window=window, **wish), room(host, *runners))
        if launch is not None:
            return launch
    return None


@pytest.mark.parametrize(
    ("needed", "trained", "windows"),
    [
        (13_548, 131_072, (32768, 16384)),
        (13_548, 32768, (32768, 16384)),
        (20_000, 40_960, (40_960, 32768)),
        (32_768, 32768, (32768,)),
        (32_769, 32768, ()),
        (5_000, 0, ()),
        (4_500, 131_072, (16384, 8192)),
        (3_000, 131_072, (8192,)),
        (3_000, 4_096, (4096,)),
    ],
)
def test_which_windows_are_tried(needed: int, trained: int, windows: tuple[int, ...]) -> None:
    assert windows_for(needed, trained) == windows


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_each_holds_what_is_needed_and_is_no_more_than_trained(needed: int, trained: int) -> None:
    assert all(needed <= window <= trained for window in windows_for(needed, trained))


def test_with_16_gib_free_an_agents_first_prompt_has_its_window(model: Model) -> None:
    launch = grown(model, CLAUDE_CODES_FIRST, HostFigures(20 * GIB, 16 * GIB))
    assert launch is not None
    assert launch.spec.context_window >= CLAUDE_CODES_FIRST
    assert launch.spec.num_parallel == launch.memory.slots >= 1
    assert launch.memory.host_bytes < 12 * GIB
    assert "context_window" in launch.automatic


def test_with_little_free_there_is_none(model: Model) -> None:
    assert grown(model, CLAUDE_CODES_FIRST, HostFigures(20 * GIB, 2 * GIB)) is None


def test_what_its_own_runner_gives_back_counts_as_free_and_anothers_does_not(model: Model) -> None:
    host = HostFigures(20 * GIB, 2 * GIB)
    assert grown(model, CLAUDE_CODES_FIRST, host, Loaded("/m", 10 * GIB)) is not None
    assert grown(model, CLAUDE_CODES_FIRST, host, Loaded("/other", 10 * GIB)) is None


def test_slots_that_somebody_asked_for_stay(model: Model) -> None:
    host = HostFigures(64 * GIB, 16 * GIB)
    free = grown(model, CLAUDE_CODES_FIRST, host)
    assert free is not None
    assert free.spec.num_parallel < 4
    assert grown(model, CLAUDE_CODES_FIRST, host, settings=Settings(num_parallel=8)) is None


def test_a_devices_memory_has_to_hold_its_part(model: Model) -> None:
    card = DeviceFigures(24 * GIB, 24 * GIB)
    assert room(HostFigures(64 * GIB, 60 * GIB, (card,)), Loaded("/m", 5 * GIB, 4 * GIB)) == Room(
        int(61 * GIB * 0.7), int(28 * GIB * 0.7)
    )


# ---- the policy


def test_a_request_for_a_larger_window_has_the_model_loaded_anew_once() -> None:
    world = World()
    world.serve(context_window=4096)
    world.ask("long", context_window=16384, least_window=16384)
    world.gone("a")
    world.ready()
    assert "long" in world.granted
    assert [load.spec.context_window for load in world.loads] == [4096, 16384]
    world.end("long")
    world.ask("short", context_window=4096, parallel=2)
    world.end("short")
    world.ask("as long", context_window=16384, least_window=16384)
    assert {"short", "as long"} <= set(world.granted)
    assert len(world.loads) == 2


def test_a_window_that_memory_lowers_after_all_is_not_asked_for_again() -> None:
    world = World(free_gib=4.0)
    token = GIB // 8192
    world.ask("long", context_window=65536, least_window=65536, per_token=token, gib=1.0)
    world.ready()
    assert world.loads[-1].spec.context_window < 65536
    assert "long" in world.granted
    assert len(world.loads) == 1
