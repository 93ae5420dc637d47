"""What the log says at the start of a server about its settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.config import Settings
from corral.server.serve import set_up_logging

LOGGERS = ("corral", "uvicorn.error", "uvicorn.access", "aiohttp.access")


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """The levels of the loggers, put back."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_settings_without_effect_are_told_once_each(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"HOME": str(tmp_path), "OLLAMA_SCHED_SPREAD": "1", "OLLAMA_LLM_LIBRARY": "rocm"}
    set_up_logging(Settings.from_env(environ))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "SCHED_SPREAD is set and has no effect: a model is spread over all GPUs anyway, "
            "unless `main_gpu` names one",
        ),
        (
            "WARNING",
            "LLM_LIBRARY is set and has no effect: an engine has one backend; install another build of it, or name one "
            "with LLAMA_SERVER",
        ),
    ]
