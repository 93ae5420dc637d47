"""A process that misbehaves as an engine is killed, its clients get one typed error, and the server is as before."""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.hostile.binding import PARAMETERS

from corral.errors import CorralError, RunnerDied, RunnerFailedToStart, RunnerHung, RunnerMisbehaved
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle, State
from corral.runner.spec import LaunchOptions, RunnerSpec

HOSTILE = Path(__file__).resolve().parents[1] / "fakes/hostile"
GROWTH_BYTES = 100 * 2**20
Make = Callable[..., RunnerHandle]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes handles on the hostile server, which does what `scenario` says once it is asked for an answer."""
    made: list[RunnerHandle] = []
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        place = Path(folder)
        model = place / "model.gguf"
        model.write_bytes(b"GGUF")
        script = place / "engine/llama-server"
        script.parent.mkdir()
        script.write_text(f"#!{sys.executable}\n{(HOSTILE / 'server.py').read_text()}")
        script.chmod(0o755)

        def build(scenario: str, **options: Any) -> RunnerHandle:
            environ = {**runner_environment(), "HOSTILE": scenario}
            launch = LaunchOptions(place / f"r{len(made)}", llama_server=str(script), environ=environ)
            spec = RunnerSpec(model, context_window=512, num_parallel=2)
            made.append(RunnerHandle(spec, replace(launch, **options)))
            return made[-1]

        yield build
        for handle in made:
            await handle.stop(0.2)


async def ended_with(handle: RunnerHandle, seconds: float = 30.0) -> CorralError:
    """What a completion ends with; the process is gone then, or soon after."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def complete() -> None:
        async for _ in handle.client.completion({"prompt": "a", "n_predict": 10}):
            pass

    with pytest.raises(CorralError) as caught:
        await asyncio.wait_for(complete(), seconds)
    async with asyncio.timeout(10):
        await handle.closed.wait()
    assert handle.state is State.DEAD
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GROWTH_BYTES
    return caught.value


@pytest.mark.parametrize("scenario", ["flood", "nonsense"])
async def test_an_answer_that_is_none_ends_the_runner(make: Make, scenario: str) -> None:
    handle = make(scenario)
    await handle.start()
    error = await ended_with(handle)
    assert isinstance(error, RunnerMisbehaved)
    assert handle.exit_code == -9


async def test_others_on_that_runner_get_the_same_error_at_once(make: Make) -> None:
    handle = make("stall")
    await handle.start()
    other = asyncio.ensure_future(ended_with(handle))
    while not handle.client.calls:
        await asyncio.sleep(0)
    with pytest.raises(RunnerMisbehaved) as caught:
        await handle.client.tokenize("a")
    assert await other is caught.value


async def test_a_runner_cannot_promise_more_slots_or_tokens_than_it_was_started_with(make: Make) -> None:
    handle = make("flood")
    await handle.start()
    assert (handle.info.slots, handle.info.context_window) == (2, 512)
    assert handle.info.memory.weights_bytes == 0  # the log's figure has been made up


async def test_an_engine_that_never_ends_its_description_does_not_start(make: Make) -> None:
    handle = make("props")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunnerMisbehaved):
        await handle.start()
    assert handle.state is State.DEAD
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GROWTH_BYTES


@pytest.mark.parametrize("scenario", ["stall", "informational"])
async def test_an_answer_that_never_goes_on_is_a_hang(make: Make, scenario: str) -> None:
    handle = make(scenario, hang_timeout_s=1.0)
    await handle.start()
    assert isinstance(await ended_with(handle), RunnerHung)


async def test_an_engine_that_hangs_up_and_lives_is_ended(make: Make) -> None:
    handle = make("hang up")
    await handle.start()
    assert isinstance(await ended_with(handle), RunnerMisbehaved)


async def test_the_true_last_words_are_told(make: Make) -> None:
    handle = make("die")
    await handle.start()
    error = await ended_with(handle)
    assert isinstance(error, RunnerDied)
    assert str(error).endswith("exit status 5: ggml_abort: GGML_ASSERT(false) failed")


@pytest.mark.parametrize("scenario", ["log", "log of nothing"])
async def test_a_log_without_end_neither_grows_nor_stops_the_server(make: Make, scenario: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    handle = make(scenario)
    await handle.start()
    longest = 0.0
    for _ in range(100):
        began = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - began)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert (after.ru_maxrss - before.ru_maxrss) * 1024 < GROWTH_BYTES
    assert longest < 0.5  # on a busy host too
    assert written_bytes(handle.pid or 0) < 8 * 2**20  # it has to wait
    assert len(handle.last_lines) <= 101
    await handle.stop(0.2)
    assert handle.state is State.DEAD


def written_bytes(pid: int) -> int:
    """What a process has written so far."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["wchar"])


BINDING = (
    """
import os, time
"""
    + PARAMETERS
    + """
class Server:
    def __init__(self, params):
        for fd in [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]:
            try:
                {attack}
            except OSError:
                pass
        time.sleep(60)
"""
)
MESSAGES = {
    "nonsense": 'os.write(fd, b"ready\\n")',
    "another sandbox": 'os.write(fd, b\'{"event": "sandbox", "active": ["all"], "missing": {}}\\n\')',
    "wrong types": 'os.write(fd, b\'{"event": "ready", "active": 5}\\n\')',
    "a line without end": '[os.write(fd, b"x" * 65536) for _ in range(10000)]',
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_child_that_says_what_no_child_says_does_not_start(tmp_path: Path, name: str) -> None:
    (tmp_path / "xllamacpp.py").write_text(BINDING.format(attack=MESSAGES[name]))
    environ = {**runner_environment(), "PYTHONPATH": str(tmp_path)}
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        handle = RunnerHandle(RunnerSpec(tmp_path / "m.gguf"), LaunchOptions(Path(folder) / "r", environ=environ))
        with pytest.raises(RunnerFailedToStart, match="said what no runner says"):
            async with asyncio.timeout(60):
                await handle.start()
        assert handle.state is State.DEAD
