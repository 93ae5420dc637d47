"""How the lines of batches give way to everybody else: when one may start, which end early. Pure; called by policy.py.

A line is a request whose caller gives way. "Others" are all requests that are none.

| others                                               | lines                                                      |
|------------------------------------------------------|------------------------------------------------------------|
| one waits, for whatever                              | none starts, none is loaded for                            |
| are served, by whichever runner                      | one at a time starts, after `Limits.batch_patience_s`      |
| any                                                  | never take a runner's last free slot, where it has several |
| one waits for a slot                                 | the youngest line of that runner ends, for each that waits |
| one waits for the memory of a runner with lines only | all of its lines end                                       |
| used an idle runner within `Limits.batch_quiet_s`    | it is not evicted for a line                               |

A line that ends so fails with GaveWay; whoever asked asks again.
"""

from __future__ import annotations

from collections.abc import Iterable

from corral.sched.fleet import Fleet
from corral.sched.state import Held, Limits, Runner, Waiter


def others(waiters: Iterable[Waiter]) -> list[Waiter]:
    """Those that are no lines of batches."""
    return [waiter for waiter in waiters if not waiter.gives_way]


def may_start(line: Waiter, runner: Runner, fleet: Fleet, waiting: Iterable[Waiter], now: float) -> bool:
    """Whether a line may have a free slot of this runner now."""
    if others(waiting) or (runner.slots > 1 and runner.free_slots < 2):
        return False
    served = any(not held.gives_way for each in fleet for held in each.leases.values())
    if not served:
        return True
    patient = now >= line.arrived + fleet.limits.batch_patience_s
    return patient and not any(held.gives_way for held in runner.leases.values())


def is_quiet(runner: Runner, line: Waiter, limits: Limits, now: float) -> bool:
    """Whether an idle runner may be evicted for this request, if that is a line."""
    return not line.gives_way or now >= runner.last_used + limits.batch_quiet_s


def ending(fleet: Fleet, waiting: Iterable[Waiter]) -> list[Held]:
    """The lines that have to end now, for others that could be granted nothing; they are noted as leaving.

    A load that only lines wait for is given up where another one waits for a place or for memory.
    """
    persons = others(waiting)
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
    for held in ends:
        held.leaving = True
    return ends


def _youngest(runner: Runner, count: int) -> list[Held]:
    """So many of a runner's lines, less those that leave already."""
    lines = [held for held in runner.leases.values() if held.gives_way]
    staying = [held for held in lines if not held.leaving]
    count -= len(lines) - len(staying)
    return sorted(staying, key=lambda held: held.started)[-count:] if count > 0 else []
