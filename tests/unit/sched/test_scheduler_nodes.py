"""The scheduler of a cluster: where runners are made, what is planned with, and what a lost machine does to leases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.unit.sched.fake_launcher import GIB, Client, FakeClock, FakeLauncher, settle
from tests.unit.sched.world import want

from corral.config import Settings
from corral.errors import NodeGone, NoNode
from corral.sched import HostFigures, Scheduler
from corral.sched.state import Limits

FIGURES = HostFigures(64 * GIB, 64 * GIB, cores=8)


class FakeNodes:
    """Notes which nodes were asked to report."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ask_report(self, node_id: str) -> None:
        self.asked.append(node_id)


@asynccontextmanager
async def clustered(
    launcher: FakeLauncher, nodes: FakeNodes | None = None, clock: FakeClock | None = None, *, node_wait_s: float = 30.0
) -> AsyncIterator[Scheduler]:
    limits = Limits(node_wait_s=node_wait_s)
    scheduler = Scheduler(Settings(), launcher, clock=clock or FakeClock(), limits=limits, cluster=nodes or FakeNodes())
    await scheduler.start()
    try:
        yield scheduler
    finally:
        await scheduler.close()
        assert launcher.running == []


async def test_a_runner_is_made_on_the_node_and_listed_with_it(launcher: FakeLauncher) -> None:
    async with clustered(launcher) as scheduler:
        client = Client(scheduler, want("a"))
        await settle()
        assert launcher.handles == []
        scheduler.nodes.joined("n1", FIGURES, {"sha256:1"})
        await client.holding.wait()
        assert launcher.nodes == ["n1"]
        assert [row.node for row in scheduler.loaded()] == ["n1"]
        (row,) = scheduler.nodes.rows()
        assert (row.id, row.state, row.cores, row.runners, row.blobs) == ("n1", "up", 8, 1, 1)
        await client.leave()


async def test_loads_are_planned_for_the_largest_node_that_has_joined(launcher: FakeLauncher) -> None:
    async with clustered(launcher) as scheduler:
        asking = asyncio.create_task(scheduler.figures())
        await settle()
        assert not asking.done()
        scheduler.nodes.joined("n1", FIGURES)
        scheduler.nodes.joined("n2", HostFigures(8 * GIB, 8 * GIB))
        await settle()
        assert await asking == FIGURES
        assert scheduler.host == FIGURES


async def test_planning_waits_for_a_node_and_not_for_ever(launcher: FakeLauncher) -> None:
    async with clustered(launcher, node_wait_s=0.01) as scheduler:
        with pytest.raises(NoNode):
            await scheduler.figures()


async def test_figures_that_are_old_are_asked_of_the_node(launcher: FakeLauncher) -> None:
    clock, nodes = FakeClock(), FakeNodes()
    async with clustered(launcher, nodes, clock) as scheduler:
        scheduler.nodes.joined("n1", FIGURES)
        await settle()
        await clock.advance(10)
        client = Client(scheduler, want("a"))
        await settle()
        assert nodes.asked == ["n1"]
        scheduler.nodes.reported("n1", FIGURES)
        await client.holding.wait()
        await client.leave()


async def test_a_lost_node_ends_the_calls_under_way_and_its_handles_are_let_go(launcher: FakeLauncher) -> None:
    async with clustered(launcher) as scheduler:
        scheduler.nodes.joined("n1", FIGURES)
        async with scheduler.lease(want("a")) as lease:
            stream = lease.runner.completion({})
            reader = asyncio.create_task(anext(stream))
            await settle()
            scheduler.nodes.lost("n1", "it does not answer")
            with pytest.raises(NodeGone, match="the node n1 was lost: it does not answer"):
                await reader
        await settle()
        assert launcher.handles[0].calls == ["start", "stop"]
        assert launcher.conversations.calls == ["restore /a into 1"]  # and nothing is saved from a machine that is gone
        assert scheduler.nodes.rows() == []


async def test_a_node_that_a_call_finds_gone_stays_the_reason_and_costs_the_model_nothing(
    launcher: FakeLauncher,
) -> None:
    async with clustered(launcher) as scheduler:
        scheduler.nodes.joined("n1", FIGURES)
        for _ in range(2):  # the second lease has a runner that was there before
            async with scheduler.lease(want("a")) as lease:
                pass
        async with scheduler.lease(want("a")) as lease:
            launcher.handles[0].fake_client.events.put_nowait(NodeGone("n1"))
            with pytest.raises(NodeGone) as caught:
                await anext(lease.runner.completion({}))
            await scheduler.report_failure(lease, caught.value)
        await settle()
        waiting = Client(scheduler, want("a"))
        await settle()
        assert len(launcher.handles) == 1, "nothing is loaded there before it has reported"
        scheduler.nodes.reported("n1", FIGURES)
        await waiting.holding.wait()
        await waiting.leave()
