"""Where a request's runner can come from: load now, evict first, wait, or never. Pure; called by policy.py.

`decide` is asked for the request that is next in line of each model without a usable runner:

1. Another runner of the same model, loaded in another way: it goes once idle, and takes no more requests once this one
   has waited a turn (reload). It is never stopped while it serves.
2. As many runners as allowed: the idle one used longest ago goes. None idle: wait; after a turn, the busy runner used
   longest ago takes no more requests.
3. The host's figures are not fresh: ask for them.
4. It fits, with fewer slots where their number is ours to choose: load.
5. It would not fit if all evictable runners were gone, even with a smaller window where that is ours: the same again
   with as many layers on the GPUs as fit there, where that is ours; else never.
6. Others are about to go: wait for their memory.
7. Evicting idle runners, longest unused first, makes room: do. Not enough of them idle: as in 2.
8. Nothing is left to evict: load with a smaller window.

Pinned runners are never evicted; a runner that has just displaced another stays for its residence time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from corral.errors import CorralError, NotEnoughMemory
from corral.sched.giveway import is_quiet
from corral.sched.memory import HostFigures, MemoryEstimate, Room, advise, shrink
from corral.sched.state import Limits, Runner, Waiter


@dataclass(frozen=True, slots=True)
class LoadNow:
    """Load it in this form."""

    need: MemoryEstimate


@dataclass(frozen=True, slots=True)
class Evict:
    """Stop these idle runners first."""

    runner_ids: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Something has to end first; yielding: the runner that must take no more requests meanwhile, 0 = none."""

    yielding: int = 0


@dataclass(frozen=True, slots=True)
class AskMemory:
    """The host's figures are needed."""


@dataclass(frozen=True, slots=True)
class Never:
    """It cannot be loaded."""

    error: CorralError


Decision = LoadNow | Evict | Wait | AskMemory | Never


def decide(
    head: Waiter,
    need: MemoryEstimate,
    runners: Iterable[Runner],
    figures: HostFigures | None,
    limits: Limits,
    now: float,
    *,
    max_loaded: int,
) -> Decision:
    """What to do on a node for the first waiting request of a model that has no usable runner."""
    fleet = list(runners)
    rival = next((runner for runner in fleet if runner.key == head.want.key), None)
    if rival is not None:
        return _displace_rival(rival, head, limits, now)
    if len(fleet) >= max_loaded:
        return _free_a_place(head, need, fleet, limits, now)
    if figures is None:
        return AskMemory()
    return _find_memory(head, need, fleet, figures, limits, now)


def _displace_rival(rival: Runner, head: Waiter, limits: Limits, now: float) -> Decision:
    if rival.is_idle and is_quiet(rival, head, limits, now):
        return Evict((rival.id,), "reload")
    overdue = rival.state == "ready" and _may_yield(rival, head, limits, now)
    return Wait(yielding=rival.id if overdue else 0)


def _free_a_place(head: Waiter, need: MemoryEstimate, fleet: list[Runner], limits: Limits, now: float) -> Decision:
    if all(runner.pinned for runner in fleet):
        why = "all loaded models are pinned: unpin one or raise OLLAMA_MAX_LOADED_MODELS"
        return Never(NotEnoughMemory(head.want.name, need.total_bytes, 0, why))
    if any(runner.state == "stopping" for runner in fleet):
        return Wait()
    victims = _evictable(fleet, head, limits, now)
    return Evict((victims[0].id,), "evict") if victims else _wait_for_busy(fleet, head, limits, now)


def _find_memory(
    head: Waiter, need: MemoryEstimate, fleet: list[Runner], figures: HostFigures, limits: Limits, now: float
) -> Decision:
    slots, window = "num_parallel" in head.want.automatic, "context_window" in head.want.automatic
    room = free_room(fleet, figures)
    form = shrink(need, room, slots=slots, window=False)
    if form is not None:
        return LoadNow(form)
    others = [runner for runner in fleet if not runner.pinned]
    smallest = shrink(need, _enlarged(room, others), slots=slots, window=window)
    if smallest is None:
        fewer = need.spilled(_enlarged(room, others).device_bytes or 0, slots=1 if slots else need.slots)
        if "n_gpu_layers" in head.want.automatic and fewer.gpu_share < need.gpu_share:
            return _find_memory(head, fewer, fleet, figures, limits, now)
        return Never(_too_big(head, need, _enlarged(room, others), slots))
    if any(runner.state == "stopping" for runner in fleet):
        return Wait()
    if not others:
        return LoadNow(smallest)
    chosen: list[Runner] = []
    for victim in _evictable(fleet, head, limits, now):
        chosen.append(victim)
        if shrink(need, _enlarged(room, chosen), slots=slots, window=False) or len(chosen) == len(others):
            return Evict(tuple(runner.id for runner in chosen), "evict")
    return _wait_for_busy(fleet, head, limits, now)


def _evictable(fleet: list[Runner], head: Waiter, limits: Limits, now: float) -> list[Runner]:
    """Idle runners that may go for `head`, longest unused first."""
    hurry = head.is_overdue(now, limits)
    free = [runner for runner in fleet if runner.is_idle and not runner.pinned]
    idle = [runner for runner in free if is_quiet(runner, head, limits, now)]
    return sorted(
        (runner for runner in idle if hurry or runner.resides_until(limits) <= now),
        key=lambda runner: (runner.last_used, runner.id),
    )


def _wait_for_busy(fleet: list[Runner], head: Waiter, limits: Limits, now: float) -> Wait:
    busy = [runner for runner in fleet if runner.leases and not runner.pinned and runner.state == "ready"]
    willing = [runner for runner in busy if _may_yield(runner, head, limits, now)]
    oldest = min(willing, key=lambda runner: (runner.ready_at, runner.id), default=None)
    return Wait(yielding=oldest.id if oldest else 0)


def _may_yield(runner: Runner, head: Waiter, limits: Limits, now: float) -> bool:
    """The request has waited a turn and the runner has had one."""
    return head.is_overdue(now, limits) and now >= runner.ready_at + limits.turn_s


def free_room(fleet: Iterable[Runner], figures: HostFigures) -> Room:
    """What is free now, less what loading runners will take and what loaded ones hold in droppable pages."""
    host, device = figures.available_bytes, figures.device_free_bytes
    for runner in fleet:
        if runner.state == "loading":
            host -= runner.need.host_bytes
            device -= runner.need.device_bytes
        host -= runner.need.mapped_bytes
    return Room(host, device if figures.devices else None)


def _enlarged(room: Room, gone: Iterable[Runner]) -> Room:
    host, device = room.host_bytes, room.device_bytes
    for runner in gone:
        host = None if host is None else host + runner.held_bytes + runner.need.mapped_bytes
        device = None if device is None else device + runner.need.device_bytes
    return Room(host, device)


def _too_big(head: Waiter, need: MemoryEstimate, room: Room, may_shrink: bool) -> NotEnoughMemory:
    """Told of the memory that is short: the host's, or the devices'."""
    least = need.at(slots=1) if may_shrink else need
    needed, free = least.host_bytes, room.host_bytes or 0
    if room.device_bytes is not None and least.device_bytes > room.device_bytes:
        needed, free = least.device_bytes, room.device_bytes
    return NotEnoughMemory(head.want.name, needed, max(0, free), advise(least, max(0, free)))
