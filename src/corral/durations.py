"""Go durations as Ollama's users write them (`5m`, `1h30m`, `-1`): parsing and printing."""

from __future__ import annotations

import math
import re
from typing import Any

from corral.errors import InvalidRequest

FOREVER = math.inf  # a keep_alive without end
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PIECE = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")
_LONGEST_S = (2**63 - 1) / 1e9


def parse_duration(text: str) -> float:
    """Seconds of a Go duration; raises InvalidRequest with Go's own wording. Source: Go time.ParseDuration."""
    quoted = _quoted(text)
    rest = text[1:] if text[:1] in {"+", "-"} else text
    if rest == "0":
        return 0.0
    if not rest:
        raise InvalidRequest(f"time: invalid duration {quoted}")
    total, position = 0.0, 0
    while position < len(rest):
        match = _PIECE.match(rest, position)
        if not match:
            raise InvalidRequest(f"time: invalid duration {quoted}")
        number, unit = match.groups()
        if not unit:
            raise InvalidRequest(f"time: missing unit in duration {quoted}")
        if unit not in _UNITS:
            raise InvalidRequest(f"time: unknown unit {_quoted(unit)} in duration {quoted}")
        total += float(number) * _UNITS[unit]
        position = match.end()
    if total > _LONGEST_S:
        raise InvalidRequest(f"time: invalid duration {quoted}")
    return -total if text.startswith("-") else total


def _quoted(text: str) -> str:
    """As package time quotes: every byte that is not printable ASCII as `\\x..`."""

    def shown(byte: int) -> str:
        char = chr(byte)
        if not 0x20 <= byte < 0x7F:
            return f"\\x{byte:02x}"
        return "\\" + char if char in '"\\' else char

    return '"' + "".join(map(shown, text.encode("utf-8", "replace"))) + '"'


def parse_keep_alive(value: Any) -> float | None:
    """Seconds of a request's `keep_alive`, FOREVER for negatives, None for null.

    Numbers are seconds, strings Go durations. Raises InvalidRequest. Source: ollama api/types.go Duration.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        raise InvalidRequest("Unsupported type: 'bool'", field="keep_alive")
    if isinstance(value, int | float):
        seconds = float(min(max(value, -1), 2**63))  # a JSON integer can be too large for a float
    elif isinstance(value, str):
        seconds = parse_duration(value)
    else:
        kind = "[]interface {}" if isinstance(value, list) else "map[string]interface {}"
        raise InvalidRequest(f"Unsupported type: '{kind}'", field="keep_alive")
    return FOREVER if seconds < 0 or seconds > _LONGEST_S else seconds


def format_duration(seconds: float) -> str:
    """A duration as Go prints it: `1.234567891s`, `45.6ms`, `1h2m3s`."""
    nanoseconds = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 and nanoseconds else ""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1_000:
            return f"{sign}{_trim(nanoseconds, size)}{unit}"
    hours, rest = divmod(nanoseconds, 3_600_000_000_000)
    minutes, rest = divmod(rest, 60_000_000_000)
    text = f"{_trim(rest, 1_000_000_000)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _trim(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    if not fraction:
        return str(whole)
    return f"{whole}.{fraction:0{len(str(unit)) - 1}d}".rstrip("0")
