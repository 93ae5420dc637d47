"""A simulated cluster: what a decision costs does not grow with it, nobody is lost, a greedy client delays itself.

What a decision costs is counted in nodes looked at, and in calls of Python functions, which no busy machine changes.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from tests.sim.cluster import Outcome, Shape, Simulation


def share(values: Any, part: float) -> float:
    """The value that this part of all is at most."""
    ordered = sorted(values)
    return float(ordered[int(part * (len(ordered) - 1))])


def calls_of(nodes: int) -> tuple[list[int], Outcome]:
    """Function calls in each decision of a short run."""
    simulation = Simulation(Shape(nodes=nodes, clients=50 * nodes, models=nodes // 4, seconds=600 / nodes, lost=0.0))
    handle, counts = simulation.policy.handle, []

    def counted(event: Any, now: float) -> Any:
        count = 0

        def note(frame: FrameType, what: str, _: object) -> None:
            nonlocal count
            count += what == "call"

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            return handle(event, now)
        finally:
            sys.setprofile(before)
            counts.append(count)

    simulation.policy.handle = counted  # type: ignore[method-assign]
    outcome = simulation.run()
    return counts, outcome


def test_a_decision_looks_at_no_more_nodes_and_takes_no_more_steps_in_a_large_cluster() -> None:
    few, _ = calls_of(40)
    many, outcome = calls_of(300)
    assert max(outcome.looked_at) <= 120
    assert share(outcome.looked_at, 0.99) <= 40
    assert share(many, 0.99) <= 1.5 * share(few, 0.99) + 200
    assert share(many, 0.99) <= 2500, "a call takes about 0.2 microseconds or more"


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return Simulation(Shape(nodes=20, clients=2000, models=10, seconds=150.0, lost=0.1, heavy=0.3)).run()


def test_everybody_is_served_or_told(outcome: Outcome) -> None:
    assert outcome.counts["errors: NodeGone"] > 0, "machines died with answers on them"
    assert {name for name in outcome.counts if name.startswith("errors")} == {"errors: NodeGone"}
    assert outcome.queue[-1][1] < 40


def test_a_greedy_client_waits_for_itself_and_others_do_not(outcome: Outcome) -> None:
    assert share(outcome.waits, 0.5) < share(outcome.heavy_waits, 0.5) or share(outcome.heavy_waits, 0.9) < 0.1


def test_models_in_demand_have_several_runners(outcome: Outcome) -> None:
    assert outcome.counts["replicas"] > 5
