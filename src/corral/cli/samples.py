"""What the server was doing each second, as figures and as series over the last minutes. Pure but for `look`.

The room Now of the page (`server/ui/now/samples.js`) counts the same things in the same way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.cli.api import Api

MOST_SAMPLES = 300  # five minutes at one a second
_PATIENCE_S = 5.0  # a server that says nothing for this long is said to be unreachable
_MEAN_S = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """The server at one moment: /api/ps, /api/requests, /api/status, and the counters of /metrics."""

    at_s: float
    models: Sequence[Mapping[str, Any]] = ()
    requests: Sequence[Mapping[str, Any]] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    metrics: str = ""

    @property
    def waiting(self) -> list[Mapping[str, Any]]:
        """The requests that no slot serves yet."""
        return [request for request in self.requests if request.get("state") != "running"]

    def tokens(self, kind: str) -> float:
        """Tokens of finished requests: `eval` made, `prompt` read, `cached` found in the cache."""
        return total(self.metrics, "corral_tokens", f'kind="{kind}"')

    def under_way(self, key: str) -> int:
        """The same of requests that are being served."""
        return sum(int(request.get(key) or 0) for request in self.requests)

    @property
    def memory_bytes(self) -> int:
        """What the models' processes take."""
        return sum(int((model.get("memory") or {}).get("rss") or model.get("size") or 0) for model in self.models)


def look(api: Api) -> Look:
    """Ask the server everything once. Raises ServerNotRunning, ServerUnreachable or ServerError."""
    return Look(
        time.monotonic(),
        api.get("/api/ps?verbose=1", timeout_s=_PATIENCE_S).get("models") or (),
        api.get("/api/requests", timeout_s=_PATIENCE_S).get("requests") or (),
        api.get("/api/status?verbose=1", timeout_s=_PATIENCE_S),
        api.text("/metrics", timeout_s=_PATIENCE_S),
    )


def total(metrics: str, name: str, label: str = "") -> float:
    """The sum of a counter in Prometheus' text form over all series that have `label`."""
    starts = (f"{name}_total{{", f"{name}_total ")
    lines = (line for line in metrics.splitlines() if line.startswith(starts) and label in line)
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@dataclass(frozen=True, slots=True)
class Sample:
    """One second: tokens made and read so far (not those from the cache), rates since the sample before, bytes, and
    how many wait."""

    at_s: float
    made: float
    read: float
    made_rate: float
    read_rate: float
    memory_bytes: float
    waiting: float


class Samples:
    """The last minutes."""

    def __init__(self) -> None:
        self.rows: deque[Sample] = deque(maxlen=MOST_SAMPLES)

    def add(self, seen: Look) -> None:
        """Take a look in."""
        made = seen.tokens("eval") + seen.under_way("eval_tokens")
        read = seen.tokens("prompt") - seen.tokens("cached")
        read += seen.under_way("processed_tokens") - seen.under_way("cached_tokens")
        before = self.rows[-1] if self.rows else None
        took_s = seen.at_s - before.at_s if before else 0.0
        # a run that failed takes its tokens with it: no rate is less than nothing
        made_rate = max(0.0, made - before.made) / took_s if before and took_s > 0 else 0.0
        read_rate = max(0.0, read - before.read) / took_s if before and took_s > 0 else 0.0
        self.rows.append(Sample(seen.at_s, made, read, made_rate, read_rate, seen.memory_bytes, len(seen.waiting)))

    def series(self, key: str) -> list[float]:
        """One figure over time, oldest first."""
        return [float(getattr(row, key)) for row in self.rows]

    def mean(self, key: str) -> float:
        """A rate's mean over the last seconds."""
        if not self.rows:
            return 0.0
        rates = [getattr(row, key) for row in list(self.rows)[1:] if row.at_s > self.rows[-1].at_s - _MEAN_S]
        return sum(rates) / len(rates) if rates else 0.0
