"""What an engine prints: a bounded tail, its last error, the memory it says it took. Pure; fed by handle.py."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterable

from corral.runner.spec import RunnerMemory

_LOG = logging.getLogger(__name__)
_KEPT_LINES = 100
_LONGEST_LINE = 2000
_LONGEST_WHY = 200
_PREFIX = re.compile(r"^(?:\d+\.)+\d+ (?P<level>[IWEDT])(?: (?:[a-z]{3,4}\s)?\s*|$)")
_BUFFER = re.compile(
    r"\s(?P<device>\S+)\s+(?P<kind>model|KV|RS|compute|output) buffer size =\s*(?P<mib>\d{1,12}(?:\.\d+)?) MiB"
)
_OFFLOADED = re.compile(r"offloaded (?P<on_device>\d+)/(?P<all>\d+) layers to GPU")
_NO_DEVICE = re.compile(r"(?P<why>failed to initialize (?:CUDA|ROCm|HIP|MUSA).*)")
_ERROR_WORDS = ("error", "failed", "unable", "invalid", "unsupported", "abort", "assert", "out of memory")
_MEMORY_WORDS = ("failed to allocate", "unable to allocate", "out of memory", "bad_alloc", "cudamalloc failed")
# closing words and advice, which say less than what came before
# llguidance: a grammar does not compile, or has met a limit on its way
_GRAMMAR_LOST = re.compile(r"(?:(?:\d+\.)+\d+ E )?llg error: (?P<why>.*)")
# what is wrong with a chat template stands before the advice to do without
_TEMPLATE_WHY = re.compile(r"(?:common_chat_templates_init: error|Error): (?:Jinja Exception: )?(?P<why>.+)")
_TEMPLATE_REFUSED = "please consider disabling jinja"
_DULL = (
    "exiting due to",
    "failed to load model, '",
    "failed to load model '",
    "load_from_file_impl: failed to load",
    "please consider disabling jinja",
    "for example: --no-jinja",
)
_LARGEST_MIB = 2**30  # of a buffer; what is larger has been made up
_LAST_WORDS_S = 5.0  # what was said longer before an end is not why it came
# buffers in the host's memory: CPU, CPU_Mapped, CPU_REPACK, AMX, BLAS, CUDA_Host, ...; all others are a GPU's
_HOST_BUFFER = re.compile(r"CPU|AMX|BLAS|.*_Host$")
_PARTS = {"model": "weights", "KV": "kv", "RS": "kv", "compute": "compute", "output": "compute"}


class EngineLog:
    """The tail of one runner's output. `hide`: texts (paths) that must not reach a client, with their replacement."""

    def __init__(self, hide: dict[str, str] | None = None) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.last_error = ""
        self.bytes_by_part: dict[str, int] = {"weights": 0, "kv": 0, "compute": 0}
        self.device_bytes = 0
        self.ran_out_of_memory = False  # the engine could not get the memory it wanted
        self.device_error = ""  # why the engine found no GPU
        self.template_error = ""  # why the engine does not start with the chat template
        self.on_grammar_lost: Callable[[str], None] | None = None  # called with the line that says so
        self._all_offloaded: bool | None = None  # of the model and its draft; None = not told
        self._template_why = "it does not parse"
        self._error_at = 0.0
        self._now = 0.0
        self.is_loading = True  # until it is told otherwise
        self._hide = dict(hide or {})
        self._pending = b""

    def hide(self, texts: dict[str, str]) -> None:
        """More texts to hide."""
        self._hide |= texts

    def feed(self, chunk: bytes, now: float = 0.0) -> int:
        """Take output in chunks of any size, at a time; how many lines that completed."""
        self._now = now
        *lines, rest = (self._pending + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines.append(rest)
            rest = b""
        self._pending = rest
        for line in lines:
            if line:
                self._add(line[: 4 * _LONGEST_LINE].decode(errors="replace")[:_LONGEST_LINE].rstrip())
        return len(lines)

    def finish(self) -> None:
        """The output has ended: what is left is a line too."""
        if self._pending:
            self.feed(b"\n", self._now)

    def loaded(self) -> None:
        """What went wrong while loading explains no later death, and what is said of buffers later is not believed."""
        self.last_error = ""
        self.is_loading = False

    def tail(self) -> tuple[str, ...]:
        """The last lines, ending in the one that tells most about a failure."""
        lines = tuple(self.lines)
        return (*lines, self.last_error) if self.last_error else lines

    def last_words(self, ended: float, moved: float) -> tuple[str, ...]:
        """The tail, if it says why the engine ended; nothing rather than a line that has nothing to do with it.

        ended: when; moved: when it last did something for somebody, after which an earlier error is a stale one.
        """
        is_fresh = self.last_error and self._error_at >= max(ended - _LAST_WORDS_S, moved)
        return self.tail() if is_fresh else ()

    def memory(self, rss_bytes: int = 0, anonymous_bytes: int = 0) -> RunnerMemory:
        """The parts as logged while loading, with the resident sizes given."""
        parts = self.bytes_by_part
        # with every layer on the GPU, what is left on the host (token embeddings, staging) counts as the GPU's, for
        # size_vram then equals size (spec native-api 1.6)
        on_device = sum(parts.values()) if self._all_offloaded else self.device_bytes
        return RunnerMemory(rss_bytes, anonymous_bytes, parts["weights"], parts["kv"], parts["compute"], on_device)

    def _add(self, line: str) -> None:
        if not line:
            return
        for text, replacement in self._hide.items():
            line = line.replace(text, replacement)
        _LOG.debug("%s", line)
        match = _PREFIX.match(line)
        text = line[match.end() :] if match else line
        if not text:
            return
        self.lines.append(text)
        if self.is_loading:
            self._learn(text)
        if self.on_grammar_lost is not None and (lost := _GRAMMAR_LOST.match(line)):
            self.on_grammar_lost(lost["why"])
        if tells_of_failure(text, match["level"] if match else ""):
            self.last_error, self._error_at = text, self._now

    def _learn(self, text: str) -> None:
        """What a load tells about memory, devices and the chat template."""
        if (found := _BUFFER.search(text)) and (mib := float(found["mib"])) < _LARGEST_MIB:
            size = int(mib * 2**20)
            self.bytes_by_part[_PARTS[found["kind"]]] += size
            self.device_bytes += 0 if _HOST_BUFFER.match(found["device"]) else size
        if found := _OFFLOADED.search(text):
            self._all_offloaded = self._all_offloaded is not False and found["on_device"] == found["all"]
        if found := _TEMPLATE_WHY.match(text):
            self._template_why = found["why"][:_LONGEST_WHY]
        if _TEMPLATE_REFUSED in text:
            self.template_error = self._template_why
        if found := _NO_DEVICE.search(text):
            self.device_error = found["why"]
        self.ran_out_of_memory = self.ran_out_of_memory or contains(text.lower(), _MEMORY_WORDS)


def tells_of_failure(text: str, level: str = "") -> bool:
    """Whether a line names the cause of a failure; the engine's own closing words do not."""
    if any(part in text for part in _DULL):
        return False
    return level == "E" or (not level and contains(text.lower(), _ERROR_WORDS))


def contains(text: str, words: Iterable[str]) -> bool:
    """Whether any of the words occurs."""
    return any(word in text for word in words)
