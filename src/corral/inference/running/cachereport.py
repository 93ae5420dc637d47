"""What of a prompt had been read before, and what stands where reading began: for clients that ask with `cache`.

An agent that changes a date or a counter in its prompt has all behind it read again, and sees only that it is slow.
Here it sees the place. Called by completion.py and enginechat.py at the end of an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from corral.core import CacheReport
from corral.inference.running.run import Run
from corral.sched.request import Lease

_SHOWN_TOKENS = 12  # on each side of the place


async def report_cache(
    lease: Lease, prompt_tokens: Callable[[], Awaitable[Sequence[int] | None]], run: Run
) -> CacheReport:
    """prompt_tokens: the whole prompt as the engine read it, None when that is not known (images)."""
    metrics = run.metrics()
    read, found = metrics.prompt_tokens, metrics.cached_tokens
    tokens = await prompt_tokens()
    if tokens is None:
        return CacheReport(read, found, lease.place.source)
    before = await lease.runner.detokenize(tokens[max(0, found - _SHOWN_TOKENS) : found])
    after = await lease.runner.detokenize(tokens[found : found + _SHOWN_TOKENS])
    return CacheReport(read, found, lease.place.source, before, after)
