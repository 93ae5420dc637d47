"""A runner cannot take the host: one that wants more memory, threads, processes or files than it may have is ended.

The hostile engine is a script in the place of the engine's binding, in the real child; what it does is real.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.hostile.binding import PARAMETERS

from corral.errors import CorralError, RunnerFailedToStart, RunnerOutgrown
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle, State
from corral.runner.spec import LaunchOptions, RunnerSpec
from corral.runner.usage import UsageWatch, read_usage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")

MIB, GIB = 2**20, 2**30
PLANNED_BYTES, ROOM_BYTES = 200 * MIB, 256 * MIB
NEVER_BYTES = 3 * GIB  # the address space of the child, should the defence be missing

ENGINE = """
import json, os, resource, socket, sys, threading, time
resource.setrlimit(resource.RLIMIT_AS, ({never}, {never}))
held = []

def memory():
    for _ in range(1024):
        held.append(bytearray(4 * 2**20))
        held[-1][::4096] = b"x" * len(held[-1][::4096])

def slowly():
    for _ in range(200):
        held.append(b"x" * (16 * 2**20))
        time.sleep(0.05)

def threads():
    threading.stack_size(64 * 1024)
    for _ in range(4000):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()

def files():
    for number in range(200):
        socket.socket(socket.AF_UNIX).bind(os.path.dirname(PATH) + "/%d" % number)
    time.sleep(3600)

def answer(connection):
    head = connection.recv(65536)
    path = head.split()[1]
    body = json.dumps({{"default_generation_settings": {{"n_ctx": 512}}, "total_slots": 1}}).encode()
    if path == b"/slots":
        body = b'[{{"id": 0, "is_processing": true}}]'
    status = b"200 OK"
    if path == b"/completion":
        try:
            {attack}()
            body = b"done"
        except (MemoryError, RuntimeError) as error:
            status, body = b"500 Oops", repr(error).encode()
    connection.sendall(b"HTTP/1.1 %s\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (status, len(body), body))
    connection.close()

def serve(path):
    global PATH
    PATH = path
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
"""

BINDING = (
    ENGINE
    + PARAMETERS
    + """

class Server:
    listening_address = ""
    def __init__(self, params):
        if {at_load}:
            {attack}()
        threading.Thread(target=serve, args=(params.hostnames[0],), daemon=True).start()
        while not os.path.exists(params.hostnames[0]):
            time.sleep(0.01)
"""
)

Make = Callable[..., RunnerHandle]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """`make(attack)`: a runner that does it when it is asked for a completion, or while it loads."""
    made: list[RunnerHandle] = []
    with tempfile.TemporaryDirectory(prefix="hm-") as folder:

        def build(attack: str, *, at_load: bool = False, room_bytes: int = ROOM_BYTES) -> RunnerHandle:
            place = tmp_path / f"b{len(made)}"
            place.mkdir()
            source = BINDING.format(never=NEVER_BYTES, attack=attack, at_load=at_load)
            (place / "xllamacpp.py").write_text(source)
            options = LaunchOptions(
                Path(folder) / f"r{len(made)}",
                environ={**runner_environment(), "PYTHONPATH": str(place)},
                gpus=False,
                memory_limit_bytes=PLANNED_BYTES + room_bytes,
                memory_room_bytes=room_bytes,
            )
            made.append(RunnerHandle(RunnerSpec(tmp_path / "m.gguf", context_window=512), options))
            return made[-1]

        yield build
        for handle in made:
            await handle.stop(0.2)


async def complete(handle: RunnerHandle) -> None:
    async for _ in handle.client.completion({"prompt": "a", "n_predict": 1}):
        pass


async def attacked(handle: RunnerHandle) -> tuple[CorralError, int, float]:
    """(what the client got, the most that the runner held, seconds)."""
    pid, began, most = handle.pid or 0, time.monotonic(), 0
    work = asyncio.ensure_future(complete(handle))
    while not work.done():
        most = max(most, read_usage(pid).held_bytes)
        await asyncio.sleep(0.02)
    error = work.exception()
    assert isinstance(error, CorralError)
    return error, most, time.monotonic() - began


@pytest.mark.parametrize("attack", ["memory", "slowly"])
async def test_a_bomb_costs_no_more_than_the_room(make: Make, attack: str) -> None:
    handle = make(attack)
    await handle.start()
    error, most_bytes, took_s = await attacked(handle)
    assert most_bytes <= PLANNED_BYTES + ROOM_BYTES + 32 * MIB
    assert took_s < 30  # on a busy host; alone it is a second
    assert isinstance(error, CorralError)


async def test_the_kernel_itself_refuses_what_is_beyond_the_limit(make: Make) -> None:
    """Looks alone come a tenth of a second late, and a bomb may be lucky or not."""
    handle = make("memory")
    await handle.start()
    _, most_bytes = resource.prlimit(handle.pid or 0, resource.RLIMIT_DATA)
    assert most_bytes != resource.RLIM_INFINITY
    assert most_bytes - read_usage(handle.pid or 0).data_bytes <= PLANNED_BYTES + ROOM_BYTES


async def test_one_that_stays_at_its_limit_is_ended_and_says_why(make: Make) -> None:
    handle = make("memory")
    await handle.start()
    await attacked(handle)
    async with asyncio.timeout(30):
        await handle.closed.wait()  # `held` keeps what it took
    with pytest.raises(RunnerOutgrown, match="wanted more memory than it may have"):
        await complete(handle)


async def test_a_bomb_in_the_model_file_ends_the_load(make: Make) -> None:
    handle = make("memory", at_load=True)
    with pytest.raises(RunnerFailedToStart):
        await handle.start()
    assert handle.state is State.DEAD


async def test_without_the_kernels_limit_the_looks_are_enough(make: Make) -> None:
    """As with a GPU, whose driver reserves too much for a limit."""
    handle = make("slowly")
    limit = handle.options.memory_limit_bytes
    handle.options = replace(handle.options, sandbox=False)
    await handle.start()
    error, most_bytes, _ = await attacked(handle)
    assert isinstance(error, RunnerOutgrown)
    assert error.limit == limit
    assert most_bytes <= limit + 256 * MIB


@pytest.mark.parametrize("attack", ["threads", "files"])
async def test_threads_and_files_are_bounded(make: Make, attack: str) -> None:
    handle = make(attack, room_bytes=2 * GIB)
    await handle.start()
    error, _, _ = await attacked(handle)
    assert isinstance(error, RunnerOutgrown)
    assert error.what == attack


async def test_files_in_memory_that_it_was_given_are_allowed_for(make: Make) -> None:
    """Once mapped, they count as the runner's own."""
    options = make("len").options
    watch = UsageWatch(os.getpid(), options, lambda: False, lambda *_: None, GIB)
    assert watch.limit_bytes == options.memory_limit_bytes + GIB
    watch.close()


async def test_an_ordinary_runner_is_left_alone(make: Make) -> None:
    handle = make("len")  # does nothing to anybody: TypeError ends that thread only
    await handle.start()
    await asyncio.sleep(1.5)
    assert handle.state is State.READY
