"""The nodes of a cluster in the room Now: a line each."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Scripted, Visits

from corral.sched.memory import HostFigures

pytestmark = pytest.mark.browser


def test_the_nodes_of_a_cluster_are_listed_and_none_without_one(scripted: Scripted, visits: Visits) -> None:
    nodes = scripted.running.deps.scheduler.nodes
    page = visits.open(f"{scripted.url}#/now")
    page.wait_for_selector(".plots canvas")
    expect(page.locator("#nodes")).to_have_count(0)

    def join() -> None:
        nodes.joined("oak", HostFigures(8 * 2**30, 4 * 2**30, (), 6))

    scripted.loop.call_soon_threadsafe(join)
    row = page.locator("#nodes ~ table tbody tr")
    expect(row).to_have_count(1)
    for words in ("oak", "up", "6", "of 8", "none"):
        expect(row).to_contain_text(words)
