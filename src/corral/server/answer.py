"""`Answer`: all events of one run, collected, for replies that do not stream. Used by all three APIs."""

from __future__ import annotations

from dataclasses import dataclass, field

from corral.core import Delta, Done, Event, Rendered, TokenLogprob, ToolCall


@dataclass
class Answer:
    """One answer, while it comes in. done or rendered is set by the last event; neither if the engine just ended."""

    content: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    done: Done | None = None
    rendered: Rendered | None = None

    def take(self, event: Event) -> None:
        """Add one event."""
        if isinstance(event, Delta):
            self.content.append(event.content)
            self.thinking.append(event.thinking)
            self.calls.extend(event.tool_calls)
            self.logprobs.extend(event.logprobs)
        elif isinstance(event, Done):
            self.done = event
        elif isinstance(event, Rendered):
            self.rendered = event
