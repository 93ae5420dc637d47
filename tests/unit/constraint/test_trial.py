"""The compiler's child: its verdicts, and what becomes of grammars that would take the host."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from corral.constraint.trial import Trial, Verdict
from corral.errors import QueueFull

GOOD = '%llguidance {}\nstart: r1\nr1: "a" /b+/ <[151657]>\n'


async def test_a_grammar_that_compiles_has_no_fault(trial: Trial) -> None:
    assert await trial.check(GOOD) == Verdict()


@pytest.mark.parametrize(
    ("rule", "fault", "unsatisfiable"),
    [
        ('%json {"type": "string", "format": "nope"}', "Unknown format: nope", False),
        ('%json {"type": "string", "pattern": "^a$", "minLength": 3}', "Unsatisfiable schema", True),
        ("/a{2/", "unclosed counted repetition", False),
        ("nowhere", "nowhere", False),
    ],
)
async def test_a_fault_is_told_with_its_line(trial: Trial, rule: str, fault: str, unsatisfiable: bool) -> None:
    verdict = await trial.check(f'%llguidance {{}}\nstart: r1\nr1: "x" r2\nr2: {rule}\n')
    assert fault in verdict.fault or verdict.fault.startswith("invalid regex")
    assert (verdict.line, verdict.unsatisfiable) == (4, unsatisfiable)


async def test_a_grammar_with_a_dead_end_has_a_fault(trial: Trial) -> None:
    assert (await trial.check('%llguidance {}\nstart: "a" T1\nT1: /a/ & /b/\n')).fault


async def test_a_bomb_takes_only_the_child(trial: Trial) -> None:
    began = time.monotonic()
    bomb = '%llguidance {}\nstart: r1\nr1: %json {"type": "array", "items": {"type": "null"}, "maxItems": 200000000}\n'
    assert "too much memory" in (await trial.check(bomb)).fault
    chain = "%llguidance {}\nstart: r0\n" + "".join(f'r{n}: "a"? r{n + 1}\n' for n in range(30000)) + 'r30000: "b"\n'
    assert (await trial.check(chain)).fault
    assert await trial.check(GOOD + "\n") == Verdict()
    assert time.monotonic() - began < 60


async def test_a_verdict_is_kept_and_a_child_that_left_is_replaced() -> None:
    trial = Trial()
    try:
        await trial.check(GOOD)
        process = trial._process
        assert process is not None
        os.kill(process.pid, signal.SIGTERM)
        assert await trial.check(GOOD) == Verdict()
        assert trial._process is process
        assert await trial.check(GOOD + "// other\n") == Verdict()
        assert trial._process is not process
    finally:
        trial.close()


async def test_too_many_at_once_are_turned_away() -> None:
    trial = Trial()
    try:
        asked = [trial.check(f"{GOOD}// {number}\n") for number in range(80)]
        verdicts = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(verdict) for verdict in verdicts} == {Verdict, QueueFull}
    finally:
        trial.close()
