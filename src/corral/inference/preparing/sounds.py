"""Sounds of a request: known by their first bytes, measured before the engine sees them. Called by images.py, server.

The engine reads WAV, MP3 and FLAC and decodes a sound whole, 16,000 samples of four bytes a second, before it counts
its tokens. A small file can be a long sound, so lengths are worked out here and bounded.

| kind | first bytes          | its length                                                       |
|------|----------------------|------------------------------------------------------------------|
| WAV  | `RIFF....WAVE`       | the data chunk's blocks that are there, at the format's rate     |
| FLAC | `fLaC`               | the samples of STREAMINFO, at its rate                           |
| MP3  | `ID3` or a sync word | the frames, each by its own header                               |
"""

from __future__ import annotations

import struct

from corral.errors import InvalidRequest

MAX_SOUND_S = 3600.0  # 230 MB in the engine, some 90,000 tokens for the models that there are
_PCM_FORMATS = frozenset({0x0001, 0x0003, 0x0006, 0x0007, 0xFFFE})  # integers, floats, A-law, mu-law, extensible
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")
_MAX_RESYNCS = 20_000  # places that look like a frame of an MP3 and are none
# kbit/s by the header's four bits, for MPEG 1 and for MPEG 2 and 2.5, layers I, II, III
_RATES_1 = (
    (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_RATES_2 = (
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_SAMPLE_RATES = (44_100, 48_000, 32_000)


def is_sound(data: bytes) -> bool:
    """Whether the bytes start like a sound that the engine reads."""
    if _is_wav(data) or data[:4] == b"fLaC" or data[:3] == b"ID3":
        return True
    return len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] != 0xFF


def duration_s(data: bytes, index: int = 0) -> float:
    """How long a sound plays; raises InvalidRequest saying which one cannot be used, and why. Blocking."""
    try:
        seconds = _measure(data)
    except (struct.error, IndexError):
        raise _bad(index, "it ends before its sound begins") from None
    except ValueError as error:
        raise _bad(index, str(error)) from None
    if seconds > MAX_SOUND_S:
        raise _bad(index, f"it lasts {seconds:.0f} seconds, more than {MAX_SOUND_S:.0f}")
    if not seconds:
        raise _bad(index, "it has no sound in it")
    return seconds


def _measure(data: bytes) -> float:
    if _is_wav(data):
        return _wav_seconds(data)
    if data[:4] == b"fLaC":
        return _flac_seconds(data)
    if is_sound(data):
        return _mp3_seconds(data)
    raise ValueError("it is no WAV, MP3 or FLAC sound")


def _is_wav(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def _wav_seconds(data: bytes) -> float:
    position, rate, block_bytes = 12, 0, 0
    while True:
        name, size = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        if name == b"data":
            break
        if name == b"fmt ":
            kind, channels, rate, _, block_bytes, _ = _FORMAT.unpack_from(data, position)
            if kind not in _PCM_FORMATS:
                raise ValueError(f"its WAV format {kind:#06x} is not supported")
            if not channels or not rate or not block_bytes:
                raise ValueError("its WAV header has no channels, rate or size of samples")
        position += size + size % 2
    if not rate:
        raise ValueError("its WAV header comes after the sound")
    present = min(size, len(data) - position)  # who writes to a pipe claims 4 GiB
    return float(present / block_bytes / rate)


def _flac_seconds(data: bytes) -> float:
    packed = int.from_bytes(data[18:26], "big")  # 20 bits of rate, 3 of channels, 5 of width, 36 of samples
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    if len(data) < 42 or data[4] & 0x7F or not rate:
        raise ValueError("its FLAC header is broken")
    if not samples:
        raise ValueError("its FLAC header does not say how long it is")
    return samples / rate


def _mp3_seconds(data: bytes) -> float:
    position, seconds, resyncs = _after_id3(data), 0.0, 0
    while 0 <= position <= len(data) - 4:
        frame = _mp3_frame(data[position : position + 4])
        if frame is not None:
            position += frame[0]
            seconds += frame[1]
            continue
        resyncs += 1
        if resyncs > _MAX_RESYNCS:
            raise ValueError("too much of it is no MP3")
        position = data.find(b"\xff", position + 1)
    return seconds


def _after_id3(data: bytes) -> int:
    """Where the frames begin: after the tags, whose sizes have seven bits a byte."""
    position = 0
    while data[position : position + 3] == b"ID3":
        size = 0
        for byte in data[position + 6 : position + 10]:
            size = size << 7 | byte & 0x7F
        position += 10 + size
    return position


def _mp3_frame(header: bytes) -> tuple[int, float] | None:
    """(bytes, seconds) of the frame with this header; None when it is none."""
    if header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 3 - (header[1] >> 1 & 3)  # 3 = MPEG 1, 2 = MPEG 2, 0 = MPEG 2.5; 0 = layer I
    bits, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 3 or bits in (0, 15) or rate_index == 3:
        return None
    first = version == 3
    bit_rate = (_RATES_1 if first else _RATES_2)[layer][bits] * 1000
    rate = _SAMPLE_RATES[rate_index] // (1 if first else 2 if version == 2 else 4)
    if layer == 0:
        return (12 * bit_rate // rate + padding) * 4, 384 / rate
    samples = 576 if layer == 2 and not first else 1152
    return samples // 8 * bit_rate // rate + padding, samples / rate


def _bad(index: int, why: str) -> InvalidRequest:
    return InvalidRequest(f"sound {index + 1} cannot be used: {why}", field="images")
