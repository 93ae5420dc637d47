"""Others' share of the cores: from made-up counters, and from real processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.runner import hostload
from corral.runner.hostload import HostLoad, usable_cores

TICKS = os.sysconf("SC_CLK_TCK")


class Host:
    """A made-up /proc of four cores; seconds."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.user = [0.0, 0.0, 0.0, 0.0]
        self.idle = 0.0
        self.child = 0.0
        self.own = 0.0
        self.root = root
        (root / "proc/self/task/1").mkdir(parents=True)
        (root / "proc/77").mkdir()
        (root / "proc/self/task/1/children").write_text("77 78")  # 78 is gone already
        monkeypatch.setattr(hostload, "_affinity", lambda: frozenset({0, 1, 2, 3}))
        monkeypatch.setattr(hostload, "usable_cores", lambda: 4)
        monkeypatch.setattr(os, "times", lambda: (self.own, 0.0, 0.0, 0.0, self.now))
        self.write()
        self.load = HostLoad(root, lambda: self.now)

    def write(self) -> None:
        idle = int(self.idle * TICKS)
        lines = [f"cpu{n} {int(user * TICKS)} 0 0 {idle} 0 0 0 0 0 0" for n, user in enumerate(self.user)]
        lines.append(f"cpu4 {int(self.now * TICKS)} 0 0 0 0 0 0 0 0 0")  # a core that we may not use
        (self.root / "proc/stat").write_text("\n".join(["cpu 1 2 3", *lines, "intr 5"]))
        (self.root / "proc/77/stat").write_text(f"77 (a) b) R {'0 ' * 10}{int(self.child * TICKS)} 0 0 0 20")

    def pass_time(self, seconds: float, others: float, *, own: float = 0.0, child: float = 0.0) -> None:
        """All rates in cores."""
        self.now += seconds
        self.own += own * seconds
        self.child += child * seconds
        for n in range(4):
            self.user[n] += (others + own + child) * seconds / 4
        self.idle += seconds
        self.write()

    def serve(self, seconds: float, others: float, *, own: float = 0.0, child: float = 0.0) -> None:
        """Time passes while we serve."""
        self.load.sample()
        for _ in range(round(seconds / 0.5)):
            self.pass_time(0.5, others, own=own, child=child)
            self.load.sample()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_what_we_and_our_children_do_is_not_others_work(host: Host) -> None:
    host.serve(12.0, 0.0, own=1.0, child=3.0)
    assert host.load.others() == pytest.approx(0.0, abs=0.05)
    assert host.load.free_cores() == 4


@pytest.mark.parametrize(("others", "free"), [(0.0, 4), (0.4, 4), (0.6, 3), (1.0, 3), (2.0, 2), (4.0, 2)])
def test_cores_are_left_to_others_down_to_half(host: Host, others: float, free: int) -> None:
    host.serve(12.0, others, child=0.5)
    assert host.load.others() == pytest.approx(others, abs=0.05)
    assert host.load.free_cores() == free


def test_only_the_last_time_of_serving_counts(host: Host) -> None:
    host.serve(100.0, 4.0)
    host.serve(31.0, 0.0)
    assert host.load.others() == pytest.approx(0.0, abs=0.2)
    assert len(host.load._stretches) < 70


def test_what_others_do_while_we_do_nothing_does_not_count(host: Host) -> None:
    host.serve(12.0, 0.0)
    host.load.pause()
    host.pass_time(60.0, 4.0)
    host.serve(12.0, 0.0)
    assert host.load.others() == pytest.approx(0.0, abs=0.05)


def test_little_or_long_ago_says_nothing(host: Host) -> None:
    host.serve(9.0, 4.0)
    assert host.load.others() == 0.0
    host.serve(2.0, 4.0)
    assert host.load.others() == pytest.approx(4.0, abs=0.05)
    host.now += 700.0
    assert host.load.others() == 0.0


@pytest.mark.parametrize("missing", ["stat", "self/task/1/children"])
async def test_a_host_that_does_not_tell_is_quiet(host: Host, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostload, "_MOMENT_S", 0.0)
    for _ in range(30):
        host.pass_time(0.5, 4.0)
        (host.root / "proc" / missing).unlink(missing_ok=True)
        host.load.sample()
    assert host.load.others() == 0.0
    assert host.load.free_cores() == 4
    assert not await host.load.is_busy()


LOOP = [sys.executable, "-c", "while True: pass"]
ORPHAN = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid)"
LOOPED_S = 0.5  # of a core, which takes longer where others want it too


@contextlib.contextmanager
def busy_loop(*, ours: bool) -> Iterator[int]:
    """One, as our child or as init's; its pid."""
    if ours:
        child = subprocess.Popen(LOOP)
        pid = child.pid
    else:
        pid = int(subprocess.check_output([sys.executable, "-c", ORPHAN, *LOOP]))
    try:
        yield pid
    finally:
        os.kill(pid, 9)
        if ours:
            child.wait()


def used_s(pid: int) -> float:
    """Of a core, by one process, says the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the figures come from Linux's /proc")
@pytest.mark.parametrize("ours", [True, False])
def test_a_real_busy_loop_is_ours_only_as_our_child(*, ours: bool) -> None:
    """Measured by what the loop got of a core, so that others on this host change nothing."""
    with busy_loop(ours=ours) as pid:
        load = HostLoad()
        before, used, began = load._read(), used_s(pid), sum(os.times()[:2])
        while used_s(pid) < used + LOOPED_S:
            time.sleep(0.02)
        after, looped, waited = load._read(), used_s(pid) - used, sum(os.times()[:2]) - began
    assert before is not None
    assert after is not None
    assert after.busy - before.busy >= 0.9 * LOOPED_S
    of_the_loop = after.own - before.own - waited
    assert abs(of_the_loop - (looped if ours else 0.0)) < 0.1


def test_there_is_a_core_to_use() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
