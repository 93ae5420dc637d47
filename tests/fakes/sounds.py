"""Sounds for tests: whole small files in the formats that the engine reads."""

from __future__ import annotations

import math
import struct

_BITS_128K, _BYTES_128K, _SECONDS = 9, 417, 1152 / 44_100  # an MPEG 1 layer III frame at 44,100 Hz, not padded


def wav(seconds: float, *, hertz: float = 440.0, rate: int = 16_000) -> bytes:
    """A tone, 16 bits, one channel."""
    count = round(seconds * rate)
    samples = (round(12_000 * math.sin(2 * math.pi * hertz * number / rate)) for number in range(count))
    return wav_file(struct.pack(f"<{count}h", *samples), rate=rate)


def wav_file(
    data: bytes,
    *,
    rate: int = 16_000,
    kind: int = 1,
    block_bytes: int = 2,
    claimed: int | None = None,
    extra: bytes = b"",
) -> bytes:
    """A WAV of these samples; `claimed` bytes of them by its header, `extra` chunks before them."""
    size = len(data) if claimed is None else claimed
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, 1, rate, rate * block_bytes, block_bytes, 8 * block_bytes)
    body = b"WAVE" + layout + extra + struct.pack("<4sI", b"data", size) + data
    return struct.pack("<4sI", b"RIFF", min(len(body), 2**32 - 1)) + body


def mp3(frames: int, *, tag: bytes = b"") -> bytes:
    """So many silent frames of 1152 samples at 44,100 Hz, 128 kbit/s."""
    header = bytes((0xFF, 0xFB, _BITS_128K << 4, 0xC4))
    return tag + (header + bytes(_BYTES_128K - 4)) * frames


def mp3_seconds(frames: int) -> float:
    """How long `mp3` plays."""
    return frames * _SECONDS


def flac_header(samples: int, rate: int = 16_000) -> bytes:
    """A FLAC that has nothing but its header."""
    packed = rate << 44 | 15 << 36 | samples
    return b"fLaC" + b"\x80\0\0\x22" + bytes(10) + packed.to_bytes(8, "big") + bytes(16)
