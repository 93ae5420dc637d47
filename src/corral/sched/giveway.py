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

from corral.sched.fairness import FairQueue
from corral.sched.fleet import Fleet
from corral.sched.state import Held, Limits, Runner, Waiter


def others(waiters: Iterable[Waiter]) -> list[Waiter]:
    """Those that are no lines of batches."""
    return [waiter for waiter in waiters if not waiter.gives_way]


def serves_others(fleet: Fleet, runner: Runner) -> bool:
    """Whether any runner on this one's node serves requests that are no lines."""
    return fleet.nodes[runner.node].persons > 0


def is_patient(line: Waiter, runner: Runner, fleet: Fleet) -> bool:
    """Whether a line that is granted a slot now may keep it beside others: one at a time on a node."""
    often = line.want.caller.given_way >= fleet.limits.batch_times
    if not line.gives_way or not (often or serves_others(fleet, runner)):
        return False
    return not any(held.patient for each in fleet.on(runner.node) for held in each.leases.values())


def may_start(line: Waiter, runner: Runner, fleet: Fleet, waiting: int, now: float) -> bool:
    """Whether a line may have a free slot of this runner now; waiting: how many others do."""
    if waiting or (runner.slots > 1 and runner.free_slots < 2):
        return False
    if not serves_others(fleet, runner):
        return True
    return now >= line.arrived + fleet.limits.batch_patience_s and runner.id not in fleet.with_lines


def is_quiet(runner: Runner, line: Waiter, limits: Limits, now: float) -> bool:
    """Whether an idle runner may be evicted for this request, if that is a line."""
    return not line.gives_way or now >= runner.last_used + limits.batch_quiet_s


def ending(fleet: Fleet, queue: FairQueue) -> list[Held]:
    """The lines that have to end now, for others; they are noted as leaving.

    A load that only lines wait for is given up where another request waits for a place or for memory.
    """
    serving = [fleet.by_id[name] for name in fleet.with_lines]
    ends = [
        held
        for runner in serving
        if not runner.need.gpu_share and serves_others(fleet, runner)
        for held in runner.leases.values()
        if held.gives_way and not (held.patient or held.leaving)
    ]
    for held in ends:
        held.leaving = True
    for held in (more := _making_room(fleet, queue, serving)):
        held.leaving = True
    return ends + more


def _making_room(fleet: Fleet, queue: FairQueue, serving: list[Runner]) -> list[Held]:
    """Lines whose places are needed by those who could be granted nothing."""
    batches = queue.batches()
    if not queue.persons or not (serving or batches):
        return []
    persons = [line for line in queue.lines() if not line.kind.gives_way]
    homeless = any(not fleet.of(line.key).houses(line) for line in persons)
    homeless = homeless and not any(node.reading for node in fleet.nodes.values())  # else nobody knows yet
    if homeless:
        for key in dict.fromkeys(line.key for line in batches):
            fleet.abort_unwanted(key, [line for line in queue.lines_of(key) if not line.kind.gives_way])
    ends: list[Held] = []
    for runner in serving:
        lines = [line for line in queue.lines_of(runner.key) if not line.kind.gives_way]
        ends += _youngest(runner, sum(len(line) for line in lines if fleet.of(runner.key).suits(runner, line)))
    return ends + _for_memory(fleet, serving) if homeless else ends


def _for_memory(fleet: Fleet, serving: list[Runner]) -> list[Held]:
    """All lines of runners that serve nothing else, where nothing stops already; of several nodes, of one runner."""
    ends: list[Held] = []
    for runner in serving:
        stops = any(other.state == "stopping" for other in fleet.on(runner.node))
        if stops or not all(held.gives_way for held in runner.leases.values()):
            continue
        ends += _youngest(runner, len(runner.leases))
        if ends and len(fleet.nodes) > 1:
            break
    return ends


def _youngest(runner: Runner, count: int) -> list[Held]:
    """So many of a runner's lines, less those that leave already."""
    lines = [held for held in runner.leases.values() if held.gives_way]
    staying = [held for held in lines if not held.leaving]
    count -= len(lines) - len(staying)
    return sorted(staying, key=lambda held: held.started)[-count:] if count > 0 else []
