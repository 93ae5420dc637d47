"""A real runner with a real model: it loads, streams, stops, and every way of failing is told and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from corral.config import Settings
from corral.core import GenerationParameters
from corral.errors import RunnerDied, RunnerFailedToStart, RunnerHung
from corral.inference.preparing.choices import choose
from corral.inference.running.sampling import sampling_fields
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle, State
from corral.runner.hugepages import Way, offered_way
from corral.runner.spec import LaunchOptions, RunnerSpec
from corral.sched.memory import HostFigures

pytestmark = pytest.mark.e2e
LONG = "All work and no play makes Jack a dull boy. " * 130  # about 1,430 tokens
Make = Callable[..., RunnerHandle]


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """tmp_path is too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="ct-") as folder:
        yield Path(folder)


@pytest.fixture
async def make(models_dir: Path, short_dir: Path) -> AsyncIterator[Make]:
    """Makes handles on SmolLM2; whatever still lives at the end is stopped."""
    made: list[RunnerHandle] = []

    def build(model: Path | None = None, **options: object) -> RunnerHandle:
        spec = RunnerSpec(model or models_dir / "smollm2.gguf", context_window=2048, num_parallel=2, n_batch=16)
        environ = {**runner_environment(), "OMP_WAIT_POLICY": "passive"}  # other tests may run beside this one
        launch = LaunchOptions(short_dir / f"r{len(made)}", environ=environ)
        made.append(RunnerHandle(spec, replace(launch, **options)))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for handle in made:
        await handle.stop()


@pytest.mark.skipif(offered_way(execs=False) is not Way.COLLAPSED, reason="this kernel collapses nothing on demand")
async def test_what_a_runner_has_of_its_own_is_put_into_huge_pages(make: Make) -> None:
    handle = make(huge_pages=Way.COLLAPSED, is_measured=True)
    await handle.start()
    assert handle.info.huge_pages
    mapped = Path(f"/proc/{handle.pid}/smaps_rollup").read_text()
    found = re.search(r"AnonHugePages:\s+(\d+)", mapped)
    assert found
    assert int(found[1]) * 1024 > 0.7 * handle.info.memory.anonymous_bytes


def alive(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def open_files() -> set[str]:
    """This process's descriptors, but for the one that lists them."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def until(condition: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_it_loads_streams_and_stops_leaving_nothing(make: Make, short_dir: Path) -> None:
    fds = open_files()
    handle = make()
    await handle.start()
    assert repr(handle) == f"<RunnerHandle smollm2.gguf ready pid={handle.pid}>"
    assert handle.info.slots == 2
    assert handle.info.context_window == 2048
    assert handle.info.memory.weights_bytes > 90 * 2**20
    assert handle.info.memory.kv_cache_bytes > 0
    assert handle.info.memory.rss_bytes > handle.info.memory.anonymous_bytes > 0
    body = {"prompt": "Hello my dear", "n_predict": 5, "temperature": 0}
    events = [event async for event in handle.client.completion(body)]
    assert len(events) == 6
    assert events[-1]["stop_type"] == "limit"
    pid = handle.pid
    assert pid is not None
    await handle.stop()
    assert not alive(pid)
    assert handle.state is State.DEAD
    assert list(short_dir.iterdir()) == []
    assert open_files() <= fds


async def test_penalties_on_fewer_tokens_write_the_same_text(make: Make) -> None:
    handle = make()
    await handle.start()

    async def text(body: dict[str, Any]) -> str:
        return "".join([event["content"] async for event in handle.client.completion(body)])

    for penalties in ({"repeat_penalty": 1.3}, {"repeat_penalty": 1.1, "presence_penalty": 1.5, "repeat_last_n": 32}):
        choices = choose(Settings(), {}, {"temperature": 0, "num_predict": 40, **penalties}, HostFigures(0, 0))
        asked = sampling_fields(choices, GenerationParameters(), 2048) | {"prompt": "red, red, red, blue, red,"}
        whole = {name: value for name, value in asked.items() if name not in {"samplers", "top_k"}}
        assert asked != whole | {"top_k": asked["top_k"]}
        assert await text(asked) == await text(whole)


async def test_leaving_a_prefill_frees_the_slot_within_a_second(make: Make) -> None:
    handle = make()
    await handle.start()
    times: list[float] = []
    async with contextlib.aclosing(handle.client.completion({"prompt": LONG, "return_progress": True})) as events:
        async for event in events:
            times.append(time.monotonic())
            if event["prompt_progress"]["processed"] > 48:
                break
    began = time.monotonic()
    step_s = max(after - before for before, after in pairwise(times))  # of 16 tokens: what this host gives now
    while any(slot["is_processing"] for slot in await handle.client.slots()):
        assert time.monotonic() - began < max(1.0, 4 * step_s)
    assert event["prompt_progress"]["processed"] < event["prompt_progress"]["total"]


async def test_a_kill_in_mid_stream_is_told_with_its_signal(make: Make) -> None:
    handle = make()
    await handle.start()
    stream = handle.client.completion({"prompt": "Once upon a time", "n_predict": 1000, "ignore_eos": True})
    await anext(stream)
    assert handle.pid is not None
    os.kill(handle.pid, signal.SIGKILL)
    with pytest.raises(RunnerDied) as caught:
        _ = [event async for event in stream]
    assert caught.value.exit_code == -signal.SIGKILL
    assert caught.value.mid_stream
    assert handle.closed.is_set()
    with pytest.raises(RunnerDied):
        await handle.client.tokenize("x")


async def test_a_stopped_engine_is_found_hung_and_killed(make: Make) -> None:
    handle = make(hang_timeout_s=1.0)
    await handle.start()
    stream = handle.client.completion({"prompt": "Once upon a time", "n_predict": 1000, "ignore_eos": True})
    await anext(stream)
    assert handle.pid is not None
    os.kill(handle.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(RunnerHung) as caught:
        _ = [event async for event in stream]
    assert time.monotonic() - began < 5.0
    assert caught.value.deadline_s == 1.0
    assert handle.exit_code == -signal.SIGKILL


async def test_a_busy_engine_is_not_taken_for_hung(make: Make) -> None:
    handle = make(hang_timeout_s=1.0)  # far less than the run takes, more than one step of it on a busy host
    await handle.start()
    events = [
        e
        async for e in handle.client.completion({"prompt": LONG[: len(LONG) // 2], "n_predict": 20, "ignore_eos": True})
    ]
    assert events[-1]["tokens_predicted"] == 20
    assert handle.state is State.READY


async def test_an_engine_that_ignores_both_requests_is_killed(make: Make) -> None:
    handle = make()
    await handle.start()
    assert handle.pid is not None
    os.kill(handle.pid, signal.SIGSTOP)  # neither the end of stdin nor SIGTERM reaches it
    await all_threads_stopped(handle.pid)
    began = time.monotonic()
    await handle.stop(grace_s=0.4)
    assert time.monotonic() - began < 3.0
    assert handle.exit_code == -signal.SIGKILL


async def all_threads_stopped(pid: int) -> None:
    """Until SIGSTOP has reached every thread; before that another signal could still end the process."""
    async with asyncio.timeout(10):
        while any(
            stat.read_text().rpartition(")")[2].split()[0] != "T" for stat in Path(f"/proc/{pid}/task").glob("*/stat")
        ):
            await asyncio.sleep(0.01)


async def test_garbage_is_a_typed_error_with_the_engines_words(make: Make, tmp_path: Path, short_dir: Path) -> None:
    garbage = tmp_path / "secret-place.gguf"
    garbage.write_bytes(b"GGUF" + b"\xff" * 4096)
    handle = make(garbage)
    with pytest.raises(RunnerFailedToStart) as caught:
        await handle.start()
    assert str(caught.value).startswith("llama-server process has terminated: exit status 1: ")
    assert "error loading model" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert handle.state is State.DEAD
    assert list(short_dir.iterdir()) == []


async def test_a_load_without_a_word_is_given_up(make: Make) -> None:
    handle = make(load_timeout_s=0.01)
    with pytest.raises(RunnerFailedToStart, match="timed out waiting for llama-server to start"):
        await handle.start()
    assert handle.state is State.DEAD


async def test_a_cancelled_start_leaves_no_process(make: Make, short_dir: Path) -> None:
    handle = make()
    starting = asyncio.create_task(handle.start())
    await until(lambda: handle.pid is not None, 10)
    pid = handle.pid
    assert pid is not None
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not alive(pid)
    assert list(short_dir.iterdir()) == []


async def test_a_runner_dies_with_its_server(models_dir: Path, short_dir: Path) -> None:
    """SIGKILL of the server: it can clean up nothing, so the child has to notice."""
    program = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from corral.runner.environment import runner_environment
        from corral.runner.handle import RunnerHandle
        from corral.runner.spec import LaunchOptions, RunnerSpec

        async def main():
            spec = RunnerSpec(Path({str(models_dir / "smollm2.gguf")!r}))
            handle = RunnerHandle(spec, LaunchOptions(Path({str(short_dir / "r")!r}), environ=runner_environment()))
            await handle.start()
            print(handle.pid, flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())
    """)
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert server.stdout is not None
    pid = int(await server.stdout.readline())
    assert alive(pid)
    server.kill()
    await server.wait()
    await until(lambda: not alive(pid), 5)


async def test_the_child_sees_a_scrubbed_environment(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_API_KEYS", "hunter2")
    handle = make(environ=runner_environment())
    await handle.start()
    environ = Path(f"/proc/{handle.pid}/environ").read_bytes()
    assert b"hunter2" not in environ
    assert b"HOME=" not in environ


async def test_there_is_no_tcp_port(make: Make) -> None:
    handle = make()
    await handle.start()
    inodes = {str(path.readlink()) for path in Path(f"/proc/{handle.pid}/fd").iterdir()}
    tables = [Path(f"/proc/{handle.pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6", "udp")]
    sockets = {f"socket:[{line.split()[9]}]" for table in tables for line in table}
    assert inodes.isdisjoint(sockets)


EXTERNAL = """#!{python}
import json, os, sys
words = dict(zip(sys.argv[1::1], sys.argv[2::1]))
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = words["--model"]
params.hostnames = [words["--host"]]
params.n_ctx = int(words["--ctx-size"])
params.n_parallel = int(words["--parallel"])
server = xllamacpp.Server(params)
import signal
signal.pause()
"""


async def test_an_external_llama_server_runs_through_the_same_handle(make: Make, tmp_path: Path) -> None:
    binary = tmp_path / "llama-server"
    binary.write_text(EXTERNAL.format(python=sys.executable))
    binary.chmod(0o755)
    handle = make(llama_server=str(binary))
    await handle.start()
    assert handle.info.slots == 2
    assert "exec" in handle.info.sandbox.missing
    events = [event async for event in handle.client.completion({"prompt": "Hello", "n_predict": 2})]
    assert events[-1]["tokens_predicted"] == 2
    pid = handle.pid
    assert pid is not None
    await handle.stop()
    assert not alive(pid)


async def test_a_missing_external_engine_is_told(make: Make, tmp_path: Path) -> None:
    handle = make(llama_server=str(tmp_path / "nowhere"))
    with pytest.raises(RunnerFailedToStart, match="cannot start the engine: No such file or directory"):
        await handle.start()
