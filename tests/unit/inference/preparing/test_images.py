"""Images of requests: what passes, what is brought into another form, what is refused and why."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image
from tests.fakes.sounds import wav

from corral.errors import InvalidRequest
from corral.inference.preparing.images import prepare_image, prepare_images


def picture(kind: str, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_what_the_engine_reads_passes_byte_for_byte(kind: str) -> None:
    data = picture(kind)
    assert prepare_image(data) == data


@pytest.mark.parametrize(("kind", "mode"), [("WEBP", "RGB"), ("WEBP", "RGBA"), ("GIF", "P")])
def test_other_kinds_become_png(kind: str, mode: str) -> None:
    made = prepare_image(picture(kind, mode=mode))
    with Image.open(io.BytesIO(made)) as image:
        assert (image.format, image.size) == ("PNG", (8, 8))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no PNG"),
        (b"hello", "no PNG"),
        (picture("PNG", (64, 64))[:60], "cannot be decoded"),
        (picture("PNG", (1, 1)), "too few"),
        (picture("PNG", (1, 9)), "too few"),
        (picture("JPEG", (64, 64))[:300], "cannot"),
        (picture("WEBP", (64, 64))[:-8], "it cannot be decoded: could not create decoder object"),
        (picture("TIFF"), "no PNG"),
    ],
)
def test_what_is_no_usable_image_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"image 3 cannot be used: .*{why}"):
        prepare_image(data, 2)


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(InvalidRequest, match="cannot be used"):
        prepare_image(b"\x89PNG\r\n\x1a\n" + chunk)


def test_a_sound_passes_and_one_that_is_broken_is_called_a_sound() -> None:
    assert prepare_image(wav(0.1)) == wav(0.1)
    with pytest.raises(InvalidRequest, match=r"^sound 3 cannot be used"):
        prepare_image(b"ID3\x04rest", 2)


async def test_no_images_need_no_work() -> None:
    assert await prepare_images(()) == ()
