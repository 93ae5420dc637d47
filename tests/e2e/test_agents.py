"""Real agents against a real server, offline: each connects, streams, calls a tool, and is killed in the middle.

The model is scripted: it answers a question with one given call, and that call's result with a sentence. Requests pass
through a recorder. `scripts/agents-setup` installs the programs. What is found here is the table of
docs/compatibility.md (agents/table.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.agents.programs import AIDER, PROGRAMS, SAID, TASK, Launch, Program, aider
from tests.e2e.agents.table import note
from tests.e2e.conftest import ServerProcess
from tests.fakes.made import made
from tests.fakes.recorder import Exchange, Recorder, recording
from tests.fakes.scripted import scripted_llama

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
GO = """\
{{- if .Tools }}<|im_start|>tools
{{ range .Tools }}{{ . }}
{{ end }}Write <tool_call>{"name": "", "arguments": {}}</tool_call><|im_end|>
{{ end }}
{{- $called := false }}
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}
{{- range .ToolCalls }}<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}<|im_end|>
{{ if eq .Role "assistant" }}{{ $called = true }}{{ end }}
{{- end }}<|im_start|>assistant
{{ if and .Tools (not $called) }}<|asked|>{{ else }}<|told|>{{ end }}"""
WINDOW = 2**17
CLAUDE = PROGRAMS[0]
CALLERS = [program for program in PROGRAMS if program.call]


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """All of them, made or renewed."""
    done = subprocess.run([ROOT / "scripts" / "agents-setup"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"the agents could not be installed: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="module", params=PROGRAMS, ids=lambda program: program.name)
def program(request: pytest.FixtureRequest) -> Program:
    found: Program = request.param
    if not found.is_here:
        pytest.skip("no JDK: scripts/system-packages default-jdk-headless")
    return found


def written(call: Mapping[str, Any]) -> str:
    """A call as the template has it."""
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


@pytest.fixture(scope="module")
def model(program: Program, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A model that makes this program's call."""
    path = tmp_path_factory.mktemp("agent") / "m.gguf"
    told = [written(program.last)] if program.last else ["All", " done", " here", "."]
    scripted_llama(path, [["<|asked|>", written(program.call)], ["<|told|>", *told]], context_length=WINDOW)
    with made(server, "scripted-agent", {"m.gguf": path}, template=GO) as name:
        yield name


@pytest.fixture
def recorder(server: ServerProcess) -> Iterator[Recorder]:
    with recording(server.url) as running:
        yield running


def environment(launch: Launch, home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "NO_PROXY": "127.0.0.1", **launch.environment}


def start(program: Program, recorder: Recorder, model: str, folder: Path) -> subprocess.Popen[str]:
    """The program at work in `folder`/work, in a process group of its own."""
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    launch = program.launch(recorder.url, model, home, work)
    return subprocess.Popen(
        launch.command,
        cwd=work,
        env=environment(launch, home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill(child: subprocess.Popen[Any]) -> None:
    """It and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def turns(recorder: Recorder, program: Program) -> list[Exchange]:
    """Its requests with tools, if it has any; programs also ask for titles and the like."""
    of_route = [one for one in recorder.exchanges if one.path.startswith(program.api)]
    return [one for one in of_route if one.body.get("tools") or not program.call]


def share_from_cache(before: Exchange, after: Exchange) -> str:
    """Of the prompt before, what was not read again."""
    return f"{min(100, 100 * after.tokens[1] // before.tokens[0])} %"


def wait_until(what: Any, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_an_agent_that_is_killed_leaves_no_work_behind(
    program: Program, model: str, server: ServerProcess, recorder: Recorder, tmp_path: Path
) -> None:
    child = start(program, recorder, model, tmp_path)
    try:
        assert wait_until(lambda: turns(recorder, program), 60)
    finally:
        kill(child)
    assert wait_until(lambda: not server.request("GET", "/api/requests")["requests"], 10)
    note(program, cancel="yes")


@pytest.mark.parametrize("program", CALLERS, ids=lambda program: program.name, indirect=True, scope="module")
def test_an_agent_streams_calls_its_tool_and_goes_on_from_the_cache(
    program: Program, model: str, recorder: Recorder, tmp_path: Path
) -> None:
    child = start(program, recorder, model, tmp_path)
    try:
        output, _ = child.communicate(timeout=240)
    finally:
        kill(child)
    assert child.returncode == 0, output[-2000:]
    assert SAID in output
    assert (tmp_path / "work" / "made.txt").read_text().strip() == "seen"
    rounds = turns(recorder, program)
    assert {one.status for one in rounds} == {200}
    assert tuple(one.is_stream for one in rounds) == program.streamed
    assert rounds[0].offer == program.offer
    asked, answered = rounds[-2:]
    assert answered.tokens[1] >= asked.tokens[0] - 16, (asked.tokens, answered.tokens)
    note(program, streams="yes", tool_loop=program.loop, from_the_cache=share_from_cache(asked, answered))


HOOK = {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": "echo the sun is out"}]}]}
ROUND = ["user", "system", "assistant", "user"]


@pytest.mark.parametrize("program", [CLAUDE], ids=lambda program: program.name, indirect=True, scope="module")
def test_claude_code_says_something_as_the_system_between_turns(
    program: Program, model: str, recorder: Recorder, tmp_path: Path
) -> None:
    """What it knows of its surroundings, and what a hook adds to the user's second turn."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    launch = program.launch(recorder.url, model, home, work)
    more = ("--settings", json.dumps({"hooks": HOOK}), "--continue")
    for command in (launch.command, (*launch.command, *more)):
        done = subprocess.run(
            command, cwd=work, env=environment(launch, home), capture_output=True, text=True, timeout=240, check=False
        )
        assert SAID in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    rounds = turns(recorder, program)
    assert {one.status for one in rounds} == {200}
    roles = [[message["role"] for message in one.body["messages"]] for one in rounds]
    assert roles == [["user", "system"], ROUND, [*ROUND, "assistant", "user", "system"]]
    assert "the sun is out" in str(rounds[-1].body["messages"][-1])
    called, asked = rounds[-2:]
    assert asked.tokens[1] >= called.tokens[0] - 16, (called.tokens, asked.tokens)
    note(program, tool_loop="yes, with system messages between turns")


def test_claude_code_compacts_when_it_is_told_that_its_prompt_is_too_long(
    server: ServerProcess, recorder: Recorder, tmp_path: Path
) -> None:
    """A prompt of 45,000 tokens fits a window that has grown to all that the model knows; two long turns do not."""
    path = tmp_path / "m.gguf"
    told = ["<|told|>", "All", " done", " here", "."]
    scripted_llama(path, [["<|asked|>", written(CLAUDE.call)], told], context_length=2**16)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    with made(server, "scripted-compact", {"m.gguf": path}, template=GO) as model:
        launch = CLAUDE.launch(recorder.url, model, home, work)
        for words, flags in ((800, ()), (700, ("--continue",))):
            command = [f"{part} {'of many words ' * words}" if part == TASK else part for part in launch.command]
            done = subprocess.run(
                [*command, *flags],
                cwd=work,
                env=environment(launch, home),
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
            assert SAID in done.stdout
    statuses = [one.status for one in turns(recorder, CLAUDE)]
    assert statuses[:2] == [200, 200]
    assert statuses[2] == 400, statuses
    assert statuses[-1] == 200
    refusal = json.loads(turns(recorder, CLAUDE)[2].reply)["error"]["message"]
    assert re.fullmatch(r"prompt is too long: \d+ tokens > \d+ maximum", refusal)


def test_aider_streams_and_its_second_turn_goes_on_from_the_cache(
    server: ServerProcess, recorder: Recorder, tmp_path: Path
) -> None:
    path = scripted_llama(tmp_path / "m.gguf", [["<|told|>", "All", " done", " here", "."]], context_length=WINDOW)
    with made(server, "scripted-aider", {"m.gguf": path}, template=GO) as model:
        launch = aider(recorder.url, model)
        done = subprocess.run(
            launch.command,
            cwd=tmp_path,
            env=environment(launch, tmp_path),
            input="hello there\nand again\n/exit\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.stdout.count(SAID) == 2, done.stdout[-2000:] + done.stderr[-2000:]
    first, second = (one for one in recorder.exchanges if one.path == "/api/chat")
    assert first.is_stream
    assert second.tokens[1] > 0.6 * first.tokens[0]
    note(AIDER, streams="yes", tool_loop=AIDER.loop, from_the_cache=share_from_cache(first, second))
