"""ik_llama.cpp as a contender: a prompt a line (JSON) in, tokens per second read and answered out. Run by peers.py in
build/bench-venv, which has its wheel.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

ANSWER = 33


def main() -> None:
    """Until the input ends."""
    import ik_llama_cpp  # of another environment

    engine: Any = ik_llama_cpp.IkLlama(
        sys.argv[1], n_ctx=4096, n_threads=len(os.sched_getaffinity(0)), use_mmap=False, verbose=False
    )

    def seconds(tokens: list[int], answer: int) -> float:
        began = time.perf_counter()
        engine.generate(tokens, max_tokens=answer, temperature=0.0)
        return time.perf_counter() - began

    for line in sys.stdin:
        tokens = engine.tokenize(json.loads(line), add_bos=False)
        read_s = seconds(tokens, 1)
        whole_s = seconds(tokens, ANSWER)
        print(json.dumps([len(tokens) / read_s, (ANSWER - 1) / (whole_s - read_s)]), flush=True)


if __name__ == "__main__":
    main()
