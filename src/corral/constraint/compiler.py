"""The child that compiles grammars on trial, run by trial.py. The one file that loads llguidance.

A line of JSON each way: `{"grammar": …}` in, `{"fault": …, "line": …, "unsatisfiable": …}` out. The process has a limit
of memory, and of processor time for each grammar; one that breaks a limit takes only this process with it. It ends with
its stdin, or when nobody asks for a while.
"""

from __future__ import annotations

import json
import random
import re
import select
import signal
import sys
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

if sys.platform != "win32":
    import resource

MEMORY_BYTES = 1 << 30
CPU_S = 3.0
_IDLE_S = 300.0
_SPECIALS = 256  # control tokens at most; more of a grammar's are told apart no longer, which changes nothing
_TOKEN = re.compile(r"<\[(\d+(?:,\d+)*)\]>")
_ERROR = re.compile(r"at (\d+)\(\d+\): (.*)")
_STEPS = 160
_QUOTE = ord('"')


class _Bytes:
    """A vocabulary of all bytes and some control tokens."""

    def __init__(self) -> None:
        self.eos_token_id = 256
        self.bos_token_id = None
        self.tokens = [bytes([byte]) for byte in range(256)] + [f"<{number}>".encode() for number in range(_SPECIALS)]
        self.special_token_ids = list(range(256, 256 + _SPECIALS))

    def __call__(self, text: str | bytes) -> list[int]:
        """Tokens of a text."""
        return list(text if isinstance(text, bytes) else text.encode())


def byte_tokenizer() -> LLTokenizer:
    """A tokenizer with a token for each byte."""
    return LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=256 + _SPECIALS, slices=[])


def trial(tokenizer: LLTokenizer, grammar: str) -> dict[str, Any]:
    """What is wrong with a grammar; `line`: of its text, from 1, 0 when the compiler does not say."""
    matcher = LLMatcher(tokenizer, _renumbered(grammar), log_level=0)
    if not matcher.is_error():
        _walk(matcher)
    if not matcher.is_error():
        return {"fault": "", "line": 0, "unsatisfiable": False}
    text = matcher.get_error()
    found = _ERROR.match(text)
    fault = found[2] if found else text.partition("\n")[0]
    fault = fault.removeprefix("failed to compile JSON schema: ").strip()
    return {
        "fault": fault or "it cannot be compiled",
        "line": int(found[1]) if found else 0,
        "unsatisfiable": fault.startswith("Unsatisfiable schema"),
    }


def _walk(matcher: LLMatcher) -> None:
    """Write some text by the grammar: limits of the parser are met on the way, and dead ends."""
    draw = random.Random(0)  # noqa: S311  not for secrets
    for _ in range(_STEPS):
        mask = matcher.compute_bitmask()
        allowed = [token for token in range(256) if mask[token >> 3] >> (token & 7) & 1]
        if matcher.is_error() or not allowed:
            return
        quotes = _QUOTE in allowed and draw.random() < 0.5
        matcher.consume_token(_QUOTE if quotes else draw.choice(allowed))


def _renumbered(grammar: str) -> str:
    """The grammar with the model's control tokens as those of this vocabulary."""
    numbers: dict[str, int] = {}

    def number(token: str) -> str:
        return str(256 + numbers.setdefault(token, len(numbers) % _SPECIALS))

    return _TOKEN.sub(lambda match: f"<[{','.join(map(number, match[1].split(',')))}]>", grammar)


def main() -> None:
    """Serve until stdin ends."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tokenizer = byte_tokenizer()
    while select.select([sys.stdin.buffer], [], [], _IDLE_S)[0]:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        if sys.platform != "win32":
            signal.setitimer(signal.ITIMER_PROF, CPU_S)  # SIGPROF ends the process
        try:
            answer = trial(tokenizer, json.loads(line)["grammar"])
        except BaseException:  # noqa: BLE001  a panic of the library is none of Exception's
            answer = {"fault": "the compiler failed on it", "line": 0, "unsatisfiable": False}
        if sys.platform != "win32":
            signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
