"""Sounds are told from images, measured whatever their headers say, and never larger in the engine than allowed."""

from __future__ import annotations

import contextlib
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.sounds import flac_header, mp3, mp3_seconds, wav, wav_file
from tests.fakes.visions import picture

from corral.errors import InvalidRequest
from corral.inference.preparing.sounds import MAX_SOUND_S, duration_s, is_sound

ID3 = b"ID3\4\0\0\0\0\1\0" + bytes(128)  # a tag whose size says 128, seven bits a byte


@pytest.mark.parametrize("data", [wav(0.1), mp3(2), mp3(2, tag=ID3), flac_header(16_000)])
def test_sounds_are_known_by_their_first_bytes(data: bytes) -> None:
    assert is_sound(data)


@pytest.mark.parametrize("data", [picture("JPEG"), picture("PNG"), picture("WEBP"), b"", b"\xff", b"\xff\xff\xff"])
def test_images_are_no_sounds(data: bytes) -> None:
    assert not is_sound(data)


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (wav(0.5), 0.5),
        (wav(1.0, rate=8_000), 1.0),
        (wav_file(bytes(24_000), kind=7, block_bytes=1, rate=8_000), 3.0),
        (wav_file(bytes(32_000), claimed=2**32 - 1), 1.0),
        (wav_file(bytes(32_000), claimed=64_000), 1.0),
        (wav_file(bytes(8_000), extra=b"LIST\3\0\0\0abc\0"), 0.25),
        (mp3(100), mp3_seconds(100)),
        (mp3(100, tag=ID3), mp3_seconds(100)),
        (mp3(50) + b"no frame " * 9 + mp3(50), mp3_seconds(100)),
        (flac_header(24_000), 1.5),
    ],
)
def test_a_sound_is_as_long_as_it_plays(data: bytes, seconds: float) -> None:
    assert duration_s(data) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"RIFF\0\0\0\0WAVE", "it ends before its sound begins"),
        (b"RIFF\0\0\0\0WAVEfmt ", "it ends before its sound begins"),
        (wav_file(b""), "it has no sound in it"),
        (wav_file(bytes(99), kind=2), "WAV format 0x0002 is not supported"),
        (wav_file(bytes(99), rate=0), "no channels, rate or size"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "its WAV header comes after the sound"),
        (wav_file(bytes(8_000), rate=1), "it lasts 4000 seconds, more than 3600"),
        (b"ID3\4rest", "it has no sound in it"),
        (b"\xff\xfb\x90\0", ""),
        (b"\xff\xfb\xf0\0" * 9, "it has no sound in it"),
        (b"\xff\xe0" * 30_000, "too much of it is no MP3"),
        (b"fLaC", "its FLAC header is broken"),
        (flac_header(0), "does not say how long"),
        (flac_header(16_000 * 7200), "it lasts 7200 seconds, more than 3600"),
        (b"OggS\0\2", "it is no WAV, MP3 or FLAC sound"),
        (b"", "it is no WAV, MP3 or FLAC sound"),
    ],
)
def test_what_cannot_be_heard_is_refused_by_number_and_reason(data: bytes, why: str) -> None:
    if not why:
        assert duration_s(data) == pytest.approx(mp3_seconds(1))
        return
    with pytest.raises(InvalidRequest, match=f"^sound 2 cannot be used: .*{why}"):
        duration_s(data, 1)


def test_an_hour_of_mp3_is_measured_in_a_moment() -> None:
    data = mp3(int(MAX_SOUND_S / mp3_seconds(1)) + 2)
    start = time.process_time()
    with pytest.raises(InvalidRequest, match="more than 3600"):
        duration_s(data)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("data", [b"ID3" + bytes(25_000_000), b"\xff\xfb" + os.urandom(4_000_000), b"\xff" * 5_000_000])
def test_hostile_bytes_cost_a_bounded_time(data: bytes) -> None:
    start = time.process_time()
    with contextlib.suppress(InvalidRequest):
        duration_s(data)
    assert time.process_time() - start < 5


@given(st.sampled_from([wav(0.01), mp3(3), mp3(2, tag=ID3), flac_header(99)]), st.data())
def test_any_bytes_are_a_sound_or_a_reason(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    changed = bytearray(data[:cut])
    for position in draw.draw(st.lists(st.integers(0, max(0, cut - 1)), max_size=6)) if cut else []:
        changed[position] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest):
        assert 0 < duration_s(bytes(changed)) <= MAX_SOUND_S
