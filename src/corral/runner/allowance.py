"""How much of the host's memory a runner may take, and what of it goes to the engine's own stores. Pure.

What was planned is held by the weights, the KV cache and the compute buffers, from the load on. Requests take more for
a while (prompts as JSON, grammars, images), and the engine keeps states of conversations. Both happen in the room
beside the plan, a GiB whatever the model's size, and another one for the buffers of an image encoder:

| share of the room | for                                                                             |
|-------------------|---------------------------------------------------------------------------------|
| a half            | where tokens cannot be cut off a cache: more checkpoints than were planned      |
| a quarter there, a half elsewhere | the prompt cache: conversations that lost their slot            |
| the rest          | requests; who has been in the last eighth has to leave the last quarter soon    |

A plan that was too small costs nobody his runner: after the load, what it holds then counts (usage.py `settle`).
"""

from __future__ import annotations

from dataclasses import replace

from corral.runner.spec import LaunchOptions, Planned, RunnerSpec

MIB, GIB = 2**20, 2**30
ROOM_BYTES = GIB
_PROJECTOR_ROOM_BYTES = GIB  # an image encoder's buffers grow with the image
_MOST_CHECKPOINTS = 32  # the engine's own default
CLOSE_SHARE, AGAIN_SHARE = 8, 4  # of the room: the last eighth, the last quarter


def allow(options: LaunchOptions, spec: RunnerSpec, planned: Planned) -> LaunchOptions:
    """The options with the runner's limit and stores; unchanged when nothing was planned.

    A room that the options have already is the owner's word, and is taken as it is.
    """
    if not planned.host_bytes:
        return options
    eyes = _PROJECTOR_ROOM_BYTES if spec.projector_paths else 0
    room = options.memory_room_bytes or ROOM_BYTES + eyes
    states = room // 2 // max(1, planned.checkpoint_bytes * spec.num_parallel)
    cache = room // 4 if planned.checkpoint_bytes else room // 2
    return replace(
        options,
        memory_limit_bytes=planned.host_bytes + room,
        memory_room_bytes=room,
        prompt_cache_mib=min(options.prompt_cache_mib, cache // MIB),
        checkpoints=min(_MOST_CHECKPOINTS, planned.least_checkpoints + states),
    )
