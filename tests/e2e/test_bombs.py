"""Requests that make a real engine compute or take memory for ever: an error in seconds, and service goes on.

Schemas of this kind are refused long before (constraint/); here they go straight to the engine, as one that its
checks do not know would. Templates come with a stranger's model, and cannot be judged beforehand.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.ggufs import tiny_llama
from tests.fakes.made import made, refused

from corral.errors import CorralError
from corral.runner.allowance import allow
from corral.runner.environment import runner_environment
from corral.runner.handle import RunnerHandle
from corral.runner.spec import LaunchOptions, Planned, RunnerSpec
from corral.runner.usage import read_usage

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's"),
]

MIB, GIB = 2**20, 2**30
ERROR_S, AGAIN_S = 10.0, 15.0  # on a host with nothing else to do
NEVER_BYTES = 8 * GIB  # the address space of an engine, should the defence be missing

WITH_TOOLS = """{% if tools %}<|im_start|>system
{{ tools | tojson }}<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}<|im_start|>assistant
"""
LOOP = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
GROWTH = "{% for i in range(100000) %}{% for j in range(100000) %}{{ m.content }}{% endfor %}{% endfor %}"
HOSTILE = f"""{{% for m in messages %}}{{% if m.content == 'loop' %}}{LOOP}{{% endif -%}}
{{% if m.content == 'growth' %}}{GROWTH}{{% endif %}}<|im_start|>{{{{ m.role }}}}
{{{{ m.content }}}}<|im_end|>
{{% endfor %}}<|im_start|>assistant
"""


class Peak(threading.Thread):
    """The most that a process held while the block ran."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._pid = pid
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.02):
            self.bytes = max(self.bytes, read_usage(self._pid, alone=True).held_bytes)

    def __enter__(self) -> Peak:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


def tool(schema: dict[str, Any]) -> dict[str, Any]:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": schema}}}
    return {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": function}]}


def crowd() -> float:
    """How many want each core of this host: on a crowded one a bomb gets less done in a second, and so does its end."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def limited(pid: int) -> None:
    """No host is taken by a test, whatever it finds."""
    resource.prlimit(pid, resource.RLIMIT_AS, (NEVER_BYTES, NEVER_BYTES))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "string", "pattern": "^a{5,2}$"},
        {"type": "integer", "minimum": 10**16},
    ],
    ids=["string", "pattern", "integer"],
)
async def test_a_schema_that_never_compiles_costs_seconds_and_a_bounded_amount(
    tmp_path: Path, schema: dict[str, Any]
) -> None:
    planned = 200 * MIB
    with tempfile.TemporaryDirectory(prefix="hb-") as folder:
        spec = RunnerSpec(tiny_llama(tmp_path / "m.gguf"), context_window=512, chat_template=WITH_TOOLS)
        options = LaunchOptions(Path(folder) / "r", environ=runner_environment(), gpus=False)
        handle = RunnerHandle(spec, allow(options, spec, Planned(planned)))
        await handle.start()
        try:
            pid = handle.pid or 0
            limited(pid)
            began = time.monotonic()
            with Peak(pid) as peak, pytest.raises(CorralError):
                async with asyncio.timeout(60):
                    _ = [event async for event in handle.client.chat(tool(schema))]
            assert time.monotonic() - began < ERROR_S * crowd()
            assert peak.bytes < planned + GIB + 64 * MIB
        finally:
            await handle.stop(0.2)


@pytest.fixture(scope="module")
def stranger(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A model whose template does harm when it is told to."""
    path = tiny_llama(tmp_path_factory.mktemp("stranger") / "m.gguf", chat_template=HOSTILE)
    with made(server, "stranger", {"m.gguf": path}) as name:
        yield name


def ask(content: str, **options: Any) -> dict[str, Any]:
    return {"model": "stranger", "messages": [{"role": "user", "content": content}], "options": options}


class Bystander(threading.Thread):
    """Another client of the model, who asks again and again: the seconds that each answer took, and the errors."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self._server = server
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            try:
                self._server.post("/api/chat", ask("count", num_predict=50))
            except urllib.error.HTTPError as error:
                with error:
                    self.errors.append(error.read().decode())
            self.seconds.append(time.monotonic() - began)

    def __enter__(self) -> Bystander:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


@pytest.mark.parametrize("bomb", ["loop", "growth"])
def test_a_template_that_never_ends_costs_its_model_seconds(server: ServerProcess, stranger: str, bomb: str) -> None:
    assert server.post("/api/chat", ask("hi", num_predict=2))["done"]
    (model,) = [row for row in server.request("GET", "/api/ps?verbose=1")["models"] if row["name"].startswith(stranger)]
    limited(model["pid"])
    began = time.monotonic()
    with Peak(model["pid"]) as peak, Bystander(server) as bystander:
        status, text = refused(server, "/api/chat", ask(bomb, num_predict=2))
        assert time.monotonic() - began < ERROR_S * crowd()
        assert (status, "the model runner" in text) == (500, True), text
        assert server.post("/api/chat", ask("hi", num_predict=2))["done"]
        assert time.monotonic() - began < AGAIN_S * crowd()
    assert max(bystander.seconds) < AGAIN_S * crowd()
    assert len(bystander.errors) <= 1, bystander.errors
    assert peak.bytes < model["size"] + GIB + 64 * MIB
