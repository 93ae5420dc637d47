"""Server-sent events as llama.cpp writes them: bytes in, payloads out. Pure; used by client.py."""

from __future__ import annotations

from corral.errors import RunnerMisbehaved

MAX_EVENT_BYTES = 8 * 2**20  # Source: ollama llm/llama_server.go, the bound of one response event


class EventParser:
    """Cuts a byte stream into the payloads of its events; feed it chunks of any size.

    Comments (`: ping`) and events without data vanish. `finished` is set by the `[DONE]` marker.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._pending = b""
        self._max = max_event_bytes
        self.finished = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads completed by this chunk, in order; raises RunnerMisbehaved for an event over the bound."""
        pending = self._pending + chunk if self._pending else chunk
        if b"\r" in pending:
            pending = pending.replace(b"\r\n", b"\n")
        *events, self._pending = pending.split(b"\n\n")
        if len(pending) > self._max and any(len(event) > self._max for event in (*events, self._pending)):
            limit = self._max // 2**20
            text = f"llama-server response stream event exceeded {limit} MB limit"  # Ollama's words
            raise RunnerMisbehaved("an event without end", text)
        payloads = []
        for event in events:
            payload = event[6:] if event.startswith(b"data: ") and b"\n" not in event else _payload(event)
            if payload == b"[DONE]":
                self.finished = True
            elif payload:
                payloads.append(payload)
        return payloads


def _payload(event: bytes) -> bytes:
    """The joined `data:` lines of one event; an `error:` line (older engines) counts as data."""
    lines = []
    for line in event.split(b"\n"):
        name, _, value = line.partition(b":")
        if name in {b"data", b"error"}:
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)
