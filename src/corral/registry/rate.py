"""`RateLimit`: one bandwidth for all downloads together."""

from __future__ import annotations

import time
from collections.abc import Callable

from corral.registry.client import Sleep


class RateLimit:
    """Delays whoever takes bytes so that all together stay below `bytes_per_s`; 0 = no limit."""

    def __init__(self, bytes_per_s: int, sleep: Sleep, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_s = bytes_per_s
        self._sleep = sleep
        self._clock = clock
        self._free_at = 0.0  # when the bytes taken so far will have been paid for

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return self._bytes_per_s > 0

    @property
    def chunk_bytes(self) -> int:
        """How much to take at once: small enough that a slow rate stays smooth."""
        return min(2**18, max(2**12, self._bytes_per_s // 8))

    async def take(self, size_bytes: int) -> None:
        """Return when `size_bytes` more may have been received."""
        if not self.is_limited:
            return
        now = self._clock()
        self._free_at = max(now, self._free_at) + size_bytes / self._bytes_per_s
        await self._sleep(self._free_at - now)
