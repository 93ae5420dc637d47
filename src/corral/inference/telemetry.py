"""Counters and histograms of model work, for GET /metrics. Updated by the use cases, printed by `server/`."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram

from corral.core import Metrics, Notice

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Telemetry:
    """One server's counters, in a registry of their own so that several servers can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._runs = Counter("corral_runs", "Finished model runs", ["model", "kind", "reason"], registry=self.registry)
        self._tokens = Counter(
            "corral_tokens", "Tokens: prompt (all), cached (of prompt), eval", ["model", "kind"], registry=self.registry
        )
        self._notices = Counter(
            "corral_notices", "Warnings given to callers: dropped, clamped, ignored", ["code"], registry=self.registry
        )
        self._failures = Counter("corral_failures", "Runs that ended in an error", ["error"], registry=self.registry)
        self._resumed = Counter(
            "corral_resumed_answers",
            "Answers whose runner was lost: went on, differed, given up, or by chance (which none can be repeated)",
            ["outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "corral_run_seconds", "Whole runs", ["kind"], buckets=_SECONDS, registry=self.registry
        )
        self._first = Histogram(
            "corral_first_token_seconds", "From request to first token", buckets=_SECONDS, registry=self.registry
        )

    def finished(
        self, model: str, kind: str, reason: str, metrics: Metrics | None, notices: Iterable[Notice] = ()
    ) -> None:
        """A run ended as it should. kind: generate, chat, embed."""
        self._runs.labels(model, kind, reason).inc()
        self.noticed(notices)
        if metrics is None:
            return
        self._tokens.labels(model, "prompt").inc(metrics.prompt_tokens)
        self._tokens.labels(model, "cached").inc(metrics.cached_tokens)
        self._tokens.labels(model, "eval").inc(metrics.eval_tokens)
        self._seconds.labels(kind).observe(metrics.total_duration_ns / 1e9)

    def noticed(self, notices: Iterable[Notice]) -> None:
        """Callers were given these warnings."""
        for notice in notices:
            self._notices.labels(notice.code).inc()

    def failed(self, error: BaseException) -> None:
        """A run ended in an error."""
        self._failures.labels(type(error).__name__).inc()

    def resumed(self, outcome: str) -> None:
        """The runner of an answer that had begun was lost."""
        self._resumed.labels(outcome).inc()

    def first_token(self, seconds: float) -> None:
        """The first piece of an answer was there."""
        self._first.observe(seconds)
