"""Which GPUs there are: what the engine's answer means, when it is asked again, that a failure is not fatal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from corral.runner.devices import Device, DeviceProbe

CPU = {"name": "CPU", "description": "a CPU", "type": "CPU", "memory_free": 8, "memory_total": 9}
CARD = {"name": "CUDA0", "description": "a card", "type": "GPU", "memory_free": 20, "memory_total": 24}


class Asked:
    """Answers in turn, the last one for ever; counts the questions."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps(answer)


def probe(ask: Callable[[], str], llama_server: str = "") -> DeviceProbe:
    return DeviceProbe({}, llama_server, ask)


def test_a_host_without_gpus_is_asked_once() -> None:
    ask = Asked([CPU])
    asker = probe(ask)
    assert [asker.read(), asker.read()] == [(), ()]
    assert ask.count == 1


def test_gpus_are_asked_again_for_what_is_free_now() -> None:
    ask = Asked([CPU, CARD], [CPU, CARD | {"memory_free": 5}])
    asker = probe(ask)
    assert asker.read() == (Device("CUDA0", "a card", 20, 24),)
    assert asker.read()[0].free_bytes == 5


def test_an_integrated_gpu_is_known_as_one_and_accelerators_are_none() -> None:
    rows = [CARD | {"type": "IGPU"}, CARD | {"type": "ACCEL"}]
    assert [device.shares_host_memory for device in probe(Asked(rows)).read()] == [True]


def test_lines_that_a_driver_prints_first_do_no_harm() -> None:
    assert len(probe(Asked(f"ggml_cuda_init: found 1 CUDA devices\n{json.dumps([CARD])}\n")).read()) == 1


@pytest.mark.parametrize(
    "failure",
    [
        OSError("no such file"),
        subprocess.TimeoutExpired("x", 15),
        subprocess.CalledProcessError(-14, "x"),
        "",
        "{}",
        "[1]",
    ],
)
def test_a_probe_that_fails_means_no_gpus_and_keeps_those_that_were_known(failure: Any) -> None:
    assert probe(Asked(failure)).read() == ()
    known = probe(Asked([CARD], failure))
    before = known.read()
    if isinstance(failure, Exception) or failure == "[1]":
        assert known.read() == before != ()


def test_an_external_engines_own_list_is_read() -> None:
    text = """Available devices:
  CUDA0: NVIDIA H200 (143156 MiB, 142000 MiB free)
  BLAS: OpenBLAS (0 MiB, 0 MiB free)
"""
    expected = (Device("CUDA0", "NVIDIA H200", 142000 * 2**20, 143156 * 2**20),)
    assert probe(Asked(text), "/bin/llama-server").read() == expected
    assert probe(Asked("Available devices:\n  (none)\n"), "/bin/llama-server").read() == ()


def test_the_real_child_answers_on_this_host() -> None:
    assert all(device.total_bytes > 0 for device in DeviceProbe({}).read())


def test_a_full_gpu_keeps_the_size_it_had() -> None:
    """Its driver cannot begin, and the engine then tells 0 of everything."""
    full = CARD | {"memory_free": 0, "memory_total": 0}
    asker = probe(Asked([CARD], [full]))
    asker.read()
    assert asker.read() == (Device("CUDA0", "a card", 0, 24),)
    assert probe(Asked([full])).read() == (Device("CUDA0", "a card", 0, 0),)
