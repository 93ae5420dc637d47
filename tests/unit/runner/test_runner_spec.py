"""Specs and jobs as JSON; specs as engine settings."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from corral.runner.flags import LOG_INFO, engine_flags, server_arguments
from corral.runner.job import Job, Message, message, read_message
from corral.runner.spec import LaunchOptions, RunnerSpec

FULL = RunnerSpec(
    Path("/m"), (Path("/p"),), (Path("/a"), Path("/b")), Path("/d"), 8192, 4, 16, 8, 20, 1, False, 6, 7, False,
    True, "q8_0", True, False, False, "chatml", 5, 1024, True, "draft-simple", "1",
)  # fmt: skip
OPTIONS = LaunchOptions(Path("/run/c/1"), kv_dir=Path("/kv"))
SOCKET = Path("/run/c/1/s.sock")


def settings(spec: RunnerSpec, options: LaunchOptions = OPTIONS) -> dict[str, Any]:
    return {flag.name: flag.value for flag in engine_flags(spec, options, SOCKET)}


@pytest.mark.parametrize("spec", [FULL, RunnerSpec(Path("/m"))])
def test_a_spec_survives_json(spec: RunnerSpec) -> None:
    assert RunnerSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("text", ["{}", '{"model_path": "m", "shell": "rm"}'])
def test_an_unknown_or_missing_field_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a RunnerSpec"):
        RunnerSpec.from_json(text)


def test_a_job_survives_json_without_its_environment() -> None:
    job = Job(FULL, replace(OPTIONS, environ={"SECRET": "x"}), SOCKET, 7, 5)
    assert "SECRET" not in job.to_json()
    assert Job.from_json(job.to_json()) == replace(job, options=OPTIONS)


def test_a_message_is_an_object_with_an_event() -> None:
    assert read_message(message("ready", address="x")) == Message("ready")
    said = read_message(message("sandbox", active=("seccomp",), missing={"landlock": "too old"}))
    assert said == Message("sandbox", ("seccomp",), {"landlock": "too old"})
    nested = b'{"event": "ready", "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    wrong = [b'{"event": 5}', b'{"event": "rm"}', b'{"event": "sandbox", "active": 5}', b"\xff", nested]
    wrong += [b'{"event": "sandbox", "active": [5]}', b'{"event": "sandbox", "missing": {"a": {}}}']
    for line in (b"[]", b"{}", b"x", *wrong):
        with pytest.raises(ValueError, match=r".*"):
            read_message(line)


def test_every_file_the_engine_opens_is_listed() -> None:
    assert FULL.readable_paths == tuple(map(Path, ("/m", "/p", "/a", "/b", "/d")))


def test_every_slot_has_a_window_of_its_own() -> None:
    values = settings(FULL)
    assert (values["n_ctx"], values["n_parallel"]) == (4 * 8192, 4)
    assert "kv_unified" not in values
    assert values["cache_idle_slots"] is False


def test_a_batch_holds_a_token_of_every_slot_with_what_was_drafted_and_some_prompt() -> None:
    assert settings(replace(FULL, n_batch=1))["n_batch"] == 4 * (1 + 5) + 1
    assert settings(replace(FULL, n_batch=1, draft_num_predict=0))["n_batch"] == 5
    assert settings(replace(FULL, n_batch=1, draft_num_predict=0))["n_ubatch"] == 5
    assert settings(replace(FULL, n_batch=512, n_ubatch=0))["n_ubatch"] == 512


def test_what_is_open_is_left_to_the_engine() -> None:
    values = settings(RunnerSpec(Path("/m")))
    assert not {"n_threads", "flash_attn_type", "load_mode", "n_gpu_layers", "cache_type_k", "chat_template"} & set(
        values
    )


def test_a_load_on_the_cpu_neither_fits_nor_warms_up() -> None:
    on_cpu = replace(OPTIONS, gpus=False)
    assert (
        settings(RunnerSpec(Path("/m"), use_mmap=False), on_cpu).items()
        >= {"fit_params": False, "warmup": False}.items()
    )
    assert not {"fit_params", "warmup"} & set(settings(RunnerSpec(Path("/m"), use_mmap=False)))


@pytest.mark.parametrize(
    "spec", [RunnerSpec(Path("/m"), use_mmap=True), RunnerSpec(Path("/m"), projector_paths=(Path("/p"),))]
)
def test_mapped_weights_are_read_and_projectors_planned_by_a_warm_up(spec: RunnerSpec) -> None:
    assert "warmup" not in settings(spec, replace(OPTIONS, gpus=False))


def test_an_embedding_runner_neither_shifts_nor_logs_each_call() -> None:
    values = settings(RunnerSpec(Path("/m"), embedding=True))
    assert values["embedding"] is True
    assert values["verbosity"] == LOG_INFO
    assert "ctx_shift" not in values
    assert settings(RunnerSpec(Path("/m"), rerank=True))["pooling_type"] == "rank"


def test_an_external_engine_gets_the_same_as_arguments() -> None:
    words = server_arguments(engine_flags(FULL, OPTIONS, SOCKET))
    pairs = dict(pairwise(words))
    assert pairs["--host"] == str(SOCKET)
    assert pairs["--ctx-size"] == "32768"
    assert pairs["--load-mode"] == "none"
    assert pairs["--flash-attn"] == "on"
    assert pairs["--chat-template"] == "chatml"
    assert "--no-jinja" in words
    assert words.count("--lora") == 2
    assert "--port" not in words
