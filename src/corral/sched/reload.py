"""Can a loaded runner serve a request, or must the model be loaded anew? Pure; spec native-api 7.5.

Any difference in what to load is a reload, except where the request leaves the choice to us:

| field                          | ignored when                                        |
|--------------------------------|-----------------------------------------------------|
| context_window, n_batch        | automatic on both sides                              |
| n_ubatch                       | as n_batch                                          |
| use_mmap, num_parallel, others | automatic in the request                            |
| n_gpu_layers                   | -1 in the request                                   |

So a request without num_ctx after a load with an explicit one does reload, as Ollama's does. A request may also need a
larger window than the runner's, automatic or not (LeaseRequest.least_window; fleet.py). Source: ollama server/sched.go
needsReload, 2026-08.
"""

from __future__ import annotations

from dataclasses import fields

from corral.runner.spec import RunnerSpec

_BOTH_AUTOMATIC = frozenset({"context_window", "n_batch"})
_FIELDS = tuple(item.name for item in fields(RunnerSpec))


def needs_reload(
    loaded: RunnerSpec, loaded_automatic: frozenset[str], asked: RunnerSpec, asked_automatic: frozenset[str]
) -> bool:
    """Whether a runner loaded as `loaded` cannot serve a request that asks for `asked`."""
    return any(
        getattr(loaded, name) != getattr(asked, name) and not _ignored(name, loaded_automatic, asked, asked_automatic)
        for name in _FIELDS
    )


def _ignored(name: str, loaded_automatic: frozenset[str], asked: RunnerSpec, asked_automatic: frozenset[str]) -> bool:
    rule = "n_batch" if name == "n_ubatch" else name
    if rule not in asked_automatic:
        return name == "n_gpu_layers" and asked.n_gpu_layers == -1
    return rule not in _BOTH_AUTOMATIC or rule in loaded_automatic
