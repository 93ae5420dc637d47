"""`corral batch` waits for a server that goes, and not for one that never was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from corral.cli import batch
from corral.cli.api import AnswerCutShort, ServerLost, ServerNotRunning, ServerUnreachable


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_LOOK_S", 0.0)


def work() -> batch._Work:
    return batch._Work(cast("Any", SimpleNamespace(api=None)), Path("in"), Path("out"), "/v1/chat/completions", "")


def acting(*ends: Exception | str) -> Callable[[], str]:
    left = iter(ends)

    def act() -> str:
        end = next(left)
        if isinstance(end, Exception):
            raise end
        return end

    return act


@pytest.mark.parametrize("end", [ServerLost("reset by peer"), AnswerCutShort()])
def test_a_server_that_goes_in_the_first_call_is_waited_for(end: Exception) -> None:
    assert work()._patiently(acting(end, ServerNotRunning(), ServerNotRunning(), "done")) == "done"


def test_a_server_that_was_there_is_waited_for_in_later_calls() -> None:
    mine = work()
    assert mine._patiently(acting("begun")) == "begun"
    assert mine._patiently(acting(ServerNotRunning(), ServerUnreachable("timed out"), "done")) == "done"


@pytest.mark.parametrize("end", [ServerNotRunning(), ServerUnreachable("no such host")])
def test_a_server_that_never_was_is_said_at_once(end: Exception) -> None:
    with pytest.raises(type(end)):
        work()._patiently(acting(end, "done"))


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_PATIENCE_S", -1.0)
    with pytest.raises(ServerLost):
        work()._patiently(acting(ServerLost("reset by peer"), "done"))


def test_results_that_are_here_are_not_asked_for_again(tmp_path: Path) -> None:
    """The server goes while its files are deleted: it has the results no longer."""
    source, target = tmp_path / "in", tmp_path / "out"
    result = b'{"custom_id": "line-1", "response": {"status_code": 200}}'
    source.write_text('{"messages": []}\n')
    read, removed = acting("results"), acting(ServerLost("reset by peer"), "input", "output")

    def lines(_: str) -> list[bytes]:
        read()
        return [result]

    api = SimpleNamespace(lines=lines, remove=lambda path, body: removed())
    context = SimpleNamespace(api=api, console=SimpleNamespace(note=lambda text: None))
    mine = batch._Work(cast("Any", context), source, target, "/v1/chat/completions", "")
    counts = {"completed": 1, "failed": 0, "total": 1}
    ended = {"status": "completed", "request_counts": counts, "input_file_id": "i", "output_file_id": "o"}
    assert mine._fetch(ended) == 0
    assert target.read_bytes() == result + b"\n"
