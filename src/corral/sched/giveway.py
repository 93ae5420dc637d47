"""How the lines of batches give way to everybody else: when one may start, which end early. Pure; called by policy.py.

A line is a request whose caller gives way. "Others" are all requests that are none.

| others                                               | lines                                                      |
|------------------------------------------------------|------------------------------------------------------------|
| one waits, for whatever                              | none starts, none is loaded for                            |
| are served on a node                                 | one at a time starts there, after `batch_patience_s`       |
| begin to be served on a node                         | those that compute on its CPU end, but for such a one, and |
|                                                      | but for one that has done so `batch_times`                 |
| any                                                  | never take a runner's last free slot, where it has several |
| one waits for a slot                                 | the youngest line of that runner ends, for each that waits |
| one waits for the memory of a runner with lines only | all of its lines end                                       |
| used an idle runner within `batch_quiet_s`           | it is not evicted for a line                               |

On a CPU even the tokens of a few lines, beside a prompt, would double the time to its first token.
A line that ends so fails with GaveWay; whoever asked asks again.
"""

from __future__ import annotations

from collections.abc import Iterable

from corral.sched.fleet import Fleet
from corral.sched.state import Held, Limits, Runner, Waiter


def others(waiters: Iterable[Waiter]) -> list[Waiter]:
    """Those that are no lines of batches."""
    return [waiter for waiter in waiters if not waiter.gives_way]


def serves_others(fleet: Fleet, runner: Runner) -> bool:
    """Whether any runner on this one's node serves requests that are no lines."""
    node = (each for each in fleet if each.node == runner.node)
    return any(not held.gives_way for each in node for held in each.leases.values())


def is_patient(line: Waiter, runner: Runner, fleet: Fleet) -> bool:
    """Whether a line that is granted a slot now may keep it beside others: one at a time on a node."""
    alone = not any(held.patient for each in fleet if each.node == runner.node for held in each.leases.values())
    often = line.want.caller.given_way >= fleet.limits.batch_times
    return line.gives_way and alone and (often or serves_others(fleet, runner))


def may_start(line: Waiter, runner: Runner, fleet: Fleet, waiting: Iterable[Waiter], now: float) -> bool:
    """Whether a line may have a free slot of this runner now."""
    if others(waiting) or (runner.slots > 1 and runner.free_slots < 2):
        return False
    if not serves_others(fleet, runner):
        return True
    patient = now >= line.arrived + fleet.limits.batch_patience_s
    return patient and not any(held.gives_way for held in runner.leases.values())


def is_quiet(runner: Runner, line: Waiter, limits: Limits, now: float) -> bool:
    """Whether an idle runner may be evicted for this request, if that is a line."""
    return not line.gives_way or now >= runner.last_used + limits.batch_quiet_s


def ending(fleet: Fleet, waiting: Iterable[Waiter]) -> list[Held]:
    """The lines that have to end now, for others; they are noted as leaving.

    A load that only lines wait for is given up where another request waits for a place or for memory.
    """
    ends = [
        held
        for runner in fleet
        if not runner.need.gpu_share
        for held in runner.leases.values()
        if held.gives_way and not (held.patient or held.leaving) and serves_others(fleet, runner)
    ]
    for held in ends:
        held.leaving = True
    for held in (more := _making_room(fleet, others(waiting))):
        held.leaving = True
    return ends + more


def _making_room(fleet: Fleet, persons: list[Waiter]) -> list[Held]:
    """Lines whose places are needed by those who could be granted nothing."""
    if not persons:
        return []
    homeless = any(fleet.suitable(person) is None for person in persons)
    homeless = homeless and not any(node.reading for node in fleet.nodes.values())  # else nobody knows yet
    if homeless:
        fleet.abort_unwanted(persons)
    ends: list[Held] = []
    for runner in fleet:
        ends += _youngest(runner, sum(fleet.suitable(person) is runner for person in persons))
    if homeless and not any(runner.state == "stopping" for runner in fleet):
        for runner in fleet:
            if all(held.gives_way for held in runner.leases.values()):
                ends += _youngest(runner, len(runner.leases))
    return ends


def _youngest(runner: Runner, count: int) -> list[Held]:
    """So many of a runner's lines, less those that leave already."""
    lines = [held for held in runner.leases.values() if held.gives_way]
    staying = [held for held in lines if not held.leaving]
    count -= len(lines) - len(staying)
    return sorted(staying, key=lambda held: held.started)[-count:] if count > 0 else []
