"""Batches on a real server with a tiny model: every line once, whoever is killed; the command, and OpenAI's SDK."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.e2e.conftest import ServerProcess, free_port, linked_store, start_server
from tests.fakes.processes import until
from tests.fakes.terminal import on_terminal

pytestmark = pytest.mark.e2e

CHAT: Any = "/v1/chat/completions"


def requests(path: Path, count: int) -> Path:
    """Lines as a person would write them: some whole, some bare bodies, without a model; one is broken."""
    with path.open("w") as file:
        for number in range(1, count + 1):
            body: dict[str, Any] = {"messages": [{"role": "user", "content": f"Say {number}."}], "max_tokens": 4}
            whole = {"custom_id": f"own-{number}", "method": "POST", "url": CHAT, "body": body}
            file.write(json.dumps(whole if number % 2 else body) + "\n")
    return path


class Killable:
    """A server on one port that is killed and started again."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder, self.models, self.port = folder, models, free_port()
        self.server = self.start()

    def start(self) -> ServerProcess:
        self.server = start_server(self.folder, models=self.models, env={"CORRAL_TUNE": "off"}, port=self.port)
        return self.server

    def kill(self) -> None:
        self.server.stop(signal.SIGKILL)


def command(killable: Killable, *words: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    env = {**clean, "HOME": str(killable.folder), "CORRAL_HOST": f"127.0.0.1:{killable.port}"}
    env |= {"CORRAL_HOME": str(killable.folder / "home"), "CORRAL_MODELS": str(killable.models)}
    return subprocess.Popen(
        [sys.executable, "-m", "corral", "batch", *words],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def progress(port: int) -> tuple[str, int]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0) as client:
        found = client.batches.list().data
    if not found or found[0].request_counts is None:
        return "none", 0
    return found[0].status, found[0].request_counts.completed


def kill_runner(killable: Killable) -> None:
    def pids() -> list[int]:
        return [row["pid"] for row in killable.server.request("GET", "/api/ps?verbose=1")["models"] if row["pid"]]

    os.kill(until(pids, 60, "a model is loaded")[0], signal.SIGKILL)


def until_done(port: int, count: int) -> None:
    """Until so many lines have their answers."""
    until(lambda: progress(port)[1] >= count, 60, "some lines are done")


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.soak)])
def test_each_line_has_one_answer_whoever_is_killed(small_store: Path, tmp_path: Path, count: int) -> None:
    """The server three times, a runner, and the command twice; each while lines are under way."""
    killable = Killable(tmp_path, linked_store(small_store, tmp_path / "models"))
    source, target = requests(tmp_path / "in.jsonl", count), tmp_path / "out.jsonl"
    words = (str(source), "-o", str(target), "--model", "tiny")
    chance = random.Random(7)
    running = command(killable, *words)
    try:
        for place in sorted(chance.sample(range(2, count - 10), 3)):
            until_done(killable.port, place)
            if place % 2:
                kill_runner(killable)
                until_done(killable.port, place + 2)
            killable.kill()
            killable.start()
            if place % 3:
                running.kill()
                running.communicate()
                running = command(killable, *words)
                assert running.stdout is not None
                assert "going on with" in running.stdout.readline()  # it has met the server, and waits when it goes
        said = running.communicate(timeout=120)[0]
        assert running.returncode == 0, said
    finally:
        running.kill()  # first: it would start a server of its own
        killable.kill()
    answered = [json.loads(line) for line in target.read_text().splitlines()]
    expected = [f"own-{number}" if number % 2 else f"line-{number}" for number in range(1, count + 1)]
    assert [each["custom_id"] for each in answered] == expected
    assert all(each["response"]["status_code"] == 200 for each in answered)
    assert len({each["response"]["body"]["id"] for each in answered}) == count
    assert not list(tmp_path.glob("*corral-batch"))
    kept = tmp_path / "home"
    assert list((kept / "files" / "all").iterdir()) == []
    assert {path.name for path in (kept / "batches").rglob("*") if path.is_file()} == {"batch.json"}


def test_the_command_says_what_is_wrong_with_a_line_and_can_be_left_and_cancelled(
    small_store: Path, tmp_path: Path
) -> None:
    killable = Killable(tmp_path, linked_store(small_store, tmp_path / "models"))
    source, target = requests(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    source.write_text(
        source.read_text() + "{broken\n" + '{"model": "none", "messages": [{"role": "user", "content": "Hi"}]}\n'
    )
    try:
        done = command(killable, str(source), "-o", str(target), "--model", "tiny")
        said = done.communicate(timeout=60)[0]
        assert done.returncode == 1
        assert "line 4: invalid_json_line" in said
        assert "completed: 3 answered, 2 failed, of 5 lines" in said
        answered = [json.loads(line) for line in target.read_text().splitlines()]
        assert [each["response"] and each["response"]["status_code"] for each in answered] == [200, 200, 200, None, 404]
        long = tmp_path / "long.jsonl"
        body = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 3000, "options": {"stop": []}}
        long.write_text((json.dumps(body) + "\n") * 50)
        words = (str(long), "-o", str(target), "--model", "smollm2")
        env = {**os.environ, "HOME": str(tmp_path), "CORRAL_HOST": f"127.0.0.1:{killable.port}"}
        with on_terminal([sys.executable, "-m", "corral", "batch", *words], env) as person:
            person.wait_for("in_progress: 0 of 50 lines")
            person.type("\x03")
            person.wait_for("Cancel the batch?")
            person.type("y\r")
            assert person.wait() in {-signal.SIGINT, 128 + signal.SIGINT}
        fetched = command(killable, *words, "--cancel")
        said = fetched.communicate(timeout=60)[0]
        assert (fetched.returncode, "cancelled: " in said) == (1, True), said
        left = command(killable, *words)
        until(lambda: progress(killable.port)[0] == "in_progress", 60, "it has begun")
        left.send_signal(signal.SIGINT)
        assert "goes on at the server" in left.communicate(timeout=30)[0]
        assert left.returncode == -signal.SIGINT
        assert progress(killable.port)[0] == "in_progress"
        ended = command(killable, *words, "--cancel")
        said = ended.communicate(timeout=60)[0]
        assert (ended.returncode, "cancelled: " in said) == (1, True)
    finally:
        killable.kill()


def test_openais_sdk_drives_files_and_batches(server: ServerProcess) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=60) as client:
        path: Any = "/v1/embeddings"
        bodies = {name: {"model": "all-minilm", "input": name} for name in ("a", "b")}
        rows = [{"custom_id": name, "method": "POST", "url": path, "body": body} for name, body in bodies.items()]
        data = "\n".join(json.dumps(row) for row in rows).encode()
        source = client.files.create(file=("rows.jsonl", data), purpose="batch")
        batch = client.batches.create(input_file_id=source.id, endpoint=path, completion_window="24h")
        deadline = time.monotonic() + 60
        while batch.status not in {"completed", "failed"} and time.monotonic() < deadline:
            time.sleep(0.05)
            batch = client.batches.retrieve(batch.id)
        assert batch.status == "completed"
        assert batch.output_file_id is not None
        found = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
        for each in found:
            alone = client.embeddings.create(model="all-minilm", input=each["custom_id"])
            assert each["response"]["body"]["data"][0]["embedding"] == pytest.approx(alone.data[0].embedding, abs=1e-3)
        assert {each["custom_id"] for each in found} == {"a", "b"}
        for file_id in (source.id, batch.output_file_id):
            assert client.files.delete(file_id).deleted
