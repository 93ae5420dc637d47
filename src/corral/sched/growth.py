"""A window larger than the automatic one, for a prompt that needs it, where model and memory plainly allow it. Pure.

Called by inference/preparing/wider.py. Windows are powers of two, or all that the model was trained on, so that a few
tokens more or less ask for the same one. Twice what is needed is tried first, for conversations grow; then what is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from corral.sched.memory import SLOT_CHOICES, HostFigures, Room
from corral.sched.plan import LaunchPlan
from corral.sched.request import LoadedModel

_PLAIN_SHARE = 0.7  # of what is free; the rest stays free
_LEAST_WINDOW = 8192


def windows_for(needed_tokens: int, trained: int) -> tuple[int, ...]:
    """Windows that hold so many tokens, the best one first; none when the model was not trained on as many, or on
    nobody knows how many (0).
    """
    if needed_tokens > trained:
        return ()
    sizes = (_power_of_two(2 * needed_tokens), _power_of_two(needed_tokens))
    return tuple(dict.fromkeys(min(max(size, _LEAST_WINDOW), trained) for size in sizes))


def _power_of_two(least: int) -> int:
    return int(1 << max(0, least - 1).bit_length())


def room_for(key: str, runners: Iterable[LoadedModel], host: HostFigures) -> Room:
    """What a load of this model may plainly take: a share of what is free and of what its own runner gives back.

    Of several runners, each on a node of its own, the largest.
    """
    own = sorted((runner for runner in runners if runner.key == key), key=lambda runner: runner.size_bytes)[-1:]
    on_devices = sum(runner.size_vram_bytes for runner in own)
    on_host = sum(runner.size_bytes for runner in own) - on_devices
    device = int((host.device_free_bytes + on_devices) * _PLAIN_SHARE) if host.devices else None
    return Room(int((host.available_bytes + on_host) * _PLAIN_SHARE), device)


def fitting(launch: LaunchPlan, room: Room) -> LaunchPlan | None:
    """The load with as many slots as the room holds; None when it holds not even one."""
    slots = [launch.memory.slots]
    if "num_parallel" in launch.automatic:
        slots = [count for count in SLOT_CHOICES if count <= launch.memory.slots]
    for count in slots:
        memory = launch.memory.at(slots=count)
        if room.holds(memory):
            return launch._replace(memory=memory, spec=replace(launch.spec, num_parallel=count))
    return None
