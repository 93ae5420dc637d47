"""Answers of a tiny model, with the engine's own kernels or with a pack's: `python -m corral.runner.kernelproof`.

A short-lived child of kernels/proof.py, because a pack may crash it. Arguments: the model, and the pack's folder or
nothing. Prints one line of JSON: for each token its id, its log probability and the runner-up's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from corral.runner.kernels import KernelsUnusable, exchange

_LENGTH = 564  # attention goes another way from 512 on
_PROMPT = [1, *(3 + (7 * place * place + 11) % 256 for place in range(_LENGTH))]
_TOKENS = 24
UNUSABLE = 4  # exit status


def main() -> None:
    """See the top of this file."""
    import xllamacpp

    model, *pack = sys.argv[1:]
    try:
        if pack:
            exchange(xllamacpp.xllamacpp.__file__, Path(pack[0]))
    except KernelsUnusable as error:
        sys.stderr.write(f"{error}\n")
        os._exit(UNUSABLE)
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_parallel, params.n_batch, params.n_ubatch = 1024, 1, 64, 64
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    params.warmup, params.verbosity, params.ui = False, -1, False
    server = xllamacpp.Server(params)
    body = {"prompt": _PROMPT, "n_predict": _TOKENS, "temperature": 0, "n_probs": 2, "ignore_eos": True}
    sys.stdout.write(json.dumps(_steps(server.handle_completions(body))) + "\n")
    sys.stdout.flush()
    os._exit(0)  # the engine's threads are not waited for


def _steps(answer: dict[str, Any]) -> list[list[float]]:
    found = []
    for step in answer["choices"][0]["logprobs"]["content"]:
        top = sorted((item["logprob"] for item in step["top_logprobs"]), reverse=True)
        found.append([step["id"], step["logprob"], top[1]])
    return found


if __name__ == "__main__":
    main()
