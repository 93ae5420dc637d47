"""The CLI run in this process: streams in memory, settings of the test's own, a scripted server."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fakes.native_api import FakeApi, serving

from corral.cli.console import Console
from corral.cli.main import execute


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """A scripted server."""
    with serving(FakeApi()) as running:
        yield running


@pytest.fixture
def cli(api: FakeApi, tmp_path: Path) -> Cli:
    """Run `corral WORDS...` against the scripted server; `stdin` is piped, `terminal` makes the output a terminal."""

    def run(*words: str, stdin: str = "", terminal: bool = False, environ: dict[str, str] | None = None) -> Outcome:
        out, err = (Terminal(), io.StringIO()) if terminal else (io.StringIO(), io.StringIO())
        home = {"HOME": str(tmp_path), "CORRAL_HOME": str(tmp_path / "home"), "CORRAL_MODELS": str(tmp_path / "models")}
        status = execute(words, Console(io.StringIO(stdin), out, err), {**home, **api.environ, **(environ or {})})
        return Outcome(status, out.getvalue(), err.getvalue())

    return run
