"""The scheduler and its runners: failures, expiry, closing, lists, starting. Fake runners, fake clock."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from tests.unit.sched.fake_launcher import Client, FakeClock, FakeLauncher, running_scheduler, settle, slow_started
from tests.unit.sched.world import want

from corral.config import Settings
from corral.core import Progress
from corral.errors import (
    ModelNotFound,
    NotEnoughMemory,
    QueueFull,
    RunnerDied,
    RunnerFailedToStart,
    RunnerGone,
    RunnerHung,
    ServerClosing,
)
from corral.sched import Remembered, Scheduler
from corral.sched.state import limits_of


async def test_a_failed_load_raises_in_every_waiter_and_reaps(slow: FakeLauncher) -> None:
    async with running_scheduler(slow) as scheduler:
        clients = [Client(scheduler, want("a")) for _ in range(3)]
        await slow_started(slow)
        await settle()
        slow.handles[0].fail()
        for client in clients:
            with pytest.raises(RunnerFailedToStart, match="bad magic"):
                await client.task
        assert slow.handles[0].calls == ["start", "stop"]


async def test_a_bug_in_the_launcher_is_an_error_of_the_request_and_no_end_of_the_scheduler(slow: FakeLauncher) -> None:
    async with running_scheduler(slow) as scheduler:
        client = Client(scheduler, want("a"))
        await slow_started(slow)
        slow.handles[0].fail(TypeError("oops"))
        with pytest.raises(RunnerFailedToStart, match="see the server log"):  # a bug's words are no client's
            await client.task
        slow.start_at_once = True
        other = Client(scheduler, want("b"))
        await other.holding.wait()
        await other.leave()


async def test_a_crash_gives_those_served_its_error_and_those_waiting_a_new_runner(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler, contextlib.AsyncExitStack() as stack:
        lease = await stack.enter_async_context(scheduler.lease(want("a")))
        waiter = Client(scheduler, want("a"))
        await settle()
        launcher.handles[0].die()
        with pytest.raises(RunnerDied, match="signal 11"):
            await anext(lease.runner.completion({}))
        await waiter.holding.wait()
        assert len(launcher.handles) == 2
        with pytest.raises(RunnerDied):
            await lease.runner.tokenize("x")
        await waiter.leave()


async def test_a_crash_while_idle_is_noticed_without_a_request(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        async with scheduler.lease(want("a")):
            pass
        launcher.handles[0].die()
        await settle()
        assert scheduler.loaded() == []


async def test_a_runner_that_died_before_it_was_asked_anything_is_no_failure_of_the_model(
    launcher: FakeLauncher,
) -> None:
    async with running_scheduler(launcher) as scheduler:
        for _ in range(8):  # more than open a circuit
            async with scheduler.lease(want("a")) as lease:
                launcher.handles[-1].fake_client.answer.set()
                await lease.runner.tokenize("x")
            async with scheduler.lease(want("a")) as lease:
                launcher.handles[-1].die()
                await settle()
                with pytest.raises(RunnerGone, match="signal 11"):
                    await lease.runner.tokenize("x")
        assert len(launcher.handles) == 8


async def test_one_that_dies_of_what_it_was_started_for_is_a_failure(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        for _ in range(5):
            async with scheduler.lease(want("a")) as lease:
                launcher.handles[-1].die()
                await settle()
                with pytest.raises(RunnerDied) as caught:
                    await lease.runner.tokenize("x")
                assert not isinstance(caught.value, RunnerGone)
        with pytest.raises(RunnerFailedToStart, match="5 times"):
            async with scheduler.lease(want("a")):
                pass


async def test_a_reported_failure_replaces_the_runner(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        async with scheduler.lease(want("a")) as lease:
            await scheduler.report_failure(lease, RunnerHung(30.0))
            await settle()
            assert launcher.handles[0].closed.is_set()
            assert launcher.conversations.calls == ["restore /a into 1"]  # nothing is asked of a runner that hangs
        async with scheduler.lease(want("a")) as lease:
            assert lease.runner_id == 2


async def test_queue_full_and_not_enough_memory_reach_the_caller(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher, max_queue=1) as scheduler:
        holder = Client(scheduler, want("a"))
        await holder.holding.wait()
        waiter = Client(scheduler, want("a"))
        await settle()
        with pytest.raises(QueueFull):
            async with scheduler.lease(want("a")):
                pass
        waiter.task.cancel()
        await holder.leave()
        with pytest.raises(NotEnoughMemory):
            async with scheduler.lease(want("b", gib=1000.0)):
                pass


async def test_keep_alive_runs_on_the_clock_and_conversations_are_saved_before_the_stop(launcher: FakeLauncher) -> None:
    clock = FakeClock()
    async with running_scheduler(launcher, clock=clock, keep_alive_s=300.0) as scheduler:
        async with scheduler.lease(want("a")):
            pass
        await settle()
        await clock.advance(299.0)
        assert scheduler.loaded()[0].state == "ready"
        await clock.advance(2.0)
        assert scheduler.loaded() == []
        assert launcher.conversations.calls == ["restore /a into 1", "save /a"]
        assert launcher.handles[0].calls == ["start", "stop"]


async def test_conversations_that_cannot_be_saved_do_not_keep_the_runner(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        launcher.conversations.error = OSError("disk full")
        async with scheduler.lease(want("a", keep_alive_s=0.0)):
            pass
        await settle()
        assert launcher.handles[0].closed.is_set()
        assert scheduler.loaded() == []


async def test_unload_stops_an_idle_runner_and_spares_a_busy_one(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        client = Client(scheduler, want("a"))
        await client.holding.wait()
        await scheduler.unload("a")
        await settle()
        assert scheduler.loaded()[0].state == "ready"
        await client.leave()
        assert scheduler.loaded() == []
        await scheduler.unload("a")


async def test_close_waits_for_running_requests_and_refuses_new_ones(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler:
        client = Client(scheduler, want("a"))
        await client.holding.wait()
        closing = asyncio.create_task(scheduler.close(drain_s=60.0))
        await settle()
        with pytest.raises(ServerClosing):
            async with scheduler.lease(want("a")):
                pass
        assert not closing.done()
        await client.leave()
        await closing
        assert launcher.running == []


async def test_close_does_not_wait_longer_than_its_deadline(launcher: FakeLauncher) -> None:
    async with running_scheduler(launcher) as scheduler, contextlib.AsyncExitStack() as stack:
        lease = await stack.enter_async_context(scheduler.lease(want("a")))
        await scheduler.close(drain_s=0.0)
        assert launcher.running == []
        with pytest.raises(ServerClosing):
            await lease.runner.tokenize("x")
        async with asyncio.timeout(30):  # what a holder still has to say hangs nobody
            await scheduler.report_failure(lease, RunnerDied())
            await scheduler.unload("a")


async def test_close_twice_and_close_without_start_are_harmless(launcher: FakeLauncher) -> None:
    await Scheduler(Settings(), launcher).close()
    async with running_scheduler(launcher) as scheduler:
        await scheduler.close()
        await scheduler.close()


async def test_progress_is_told_and_a_failing_callback_harms_nobody(slow: FakeLauncher) -> None:
    told: list[Progress] = []

    def tell(progress: Progress) -> None:
        told.append(progress)
        raise RuntimeError("the response is gone")

    async with running_scheduler(slow) as scheduler:
        client = Client(scheduler, want("a", on_progress=tell))
        await slow_started(slow)
        slow.handles[0].get_ready()
        await client.holding.wait()
        await client.leave()
    assert [progress.stage for progress in told] == ["loading"] or [p.stage for p in told] == ["queued", "loading"]


async def test_the_list_of_requests_shows_where_everyone_stands(launcher: FakeLauncher) -> None:
    clock = FakeClock()
    async with running_scheduler(launcher, clock=clock) as scheduler:
        holder = Client(scheduler, want("a", client="key-1", request_id="first"))
        await holder.holding.wait()
        waiter = Client(scheduler, want("a", client="key-2", request_id="second"))
        await settle()
        await clock.advance(7.0)
        holder.lease.prompt_tokens, holder.lease.processed_tokens = 11, 8
        holder.lease.cached_tokens, holder.lease.eval_tokens = 3, 5
        running, queued = scheduler.requests()
        assert (running.id, running.state, running.client, running.running_s) == ("first", "running", "key-1", 7.0)
        assert (running.prompt_tokens, running.processed_tokens, running.cached_tokens) == (11, 8, 3)
        assert (running.eval_tokens, running.route) == (5, "/api/chat")
        assert (queued.id, queued.state, queued.position, queued.waited_s) == ("second", "queued", 1, 7.0)
        assert queued.wait_s > 0
        waiter.task.cancel()
        await holder.leave()


async def test_ps_rows_show_measured_sizes_and_expiry(launcher: FakeLauncher) -> None:
    clock = FakeClock()
    async with running_scheduler(launcher, clock=clock) as scheduler:
        async with scheduler.lease(want("a", keep_alive_s=float("inf"))):
            pass
        async with scheduler.lease(want("b", keep_alive_s=60.0)):
            pass
        await settle()
        forever, minute = scheduler.loaded()
        assert (forever.name, forever.size_bytes, forever.size_vram_bytes) == ("a:latest", 1000, 0)
        assert forever.memory == {"weights": 700, "kv_cache": 200, "compute": 100, "rss": 0, "vram": 0}
        assert 2300 < forever.expires_at.year < 2330
        assert minute.expires_at < forever.expires_at
        assert minute.expires_at.tzinfo is not None
        assert minute.pid == 4711


async def test_start_loads_preloaded_and_remembered_models_and_survives_missing_ones(
    tmp_path: Path, launcher: FakeLauncher
) -> None:
    settings = Settings(home=tmp_path, preload=("missing", "a"), restore_loaded=True)
    async with running_scheduler(launcher, settings) as scheduler:
        async with scheduler.lease(want("b", keep_alive_s=60.0)):
            pass
        async with asyncio.timeout(30):
            while not (tmp_path / "loaded.json").exists():
                await asyncio.sleep(0)
    loaded: list[Remembered] = []
    done = asyncio.Event()

    async def load(model: Remembered) -> None:
        if model.name == "missing":
            raise ModelNotFound("missing")
        loaded.append(model)
        if model.name.startswith("b"):
            done.set()

    again = Scheduler(settings, launcher, clock=FakeClock())
    await again.start(load)
    async with asyncio.timeout(30):
        await done.wait()
    await again.close()
    assert loaded == [Remembered("a"), Remembered("b:latest", 60.0)]


def test_limits_follow_the_settings_and_pins_are_short_names() -> None:
    limits = limits_of(Settings(pinned=("Llama3", "hf.co/u/r:Q4"), max_loaded_models=0), devices=2)
    assert limits.max_loaded == 6
    assert limits.pinned == {"llama3:latest", "hf.co/u/r:q4"}
    assert limits_of(Settings(max_loaded_models=1)).max_loaded == 1


async def test_a_load_that_ran_out_of_memory_is_tried_again_with_fewer_slots(slow: FakeLauncher) -> None:
    async with running_scheduler(slow) as scheduler:
        client = Client(scheduler, want("a", parallel=4))
        await slow_started(slow)
        slow.handles[0].fail(RunnerFailedToStart("signal 9", out_of_memory=True))
        await slow_started(slow, 2)
        slow.handles[1].get_ready()
        await client.holding.wait()
        assert client.lease.spec.num_parallel == 1
        await client.leave()
