"""Images of a request: checked before the engine sees them, and brought into a form that it reads.

The engine reads PNG, JPEG, GIF and BMP; WebP becomes PNG. Sounds, which come among them, pass when
sounds.py finds nothing against them. Called by the use cases.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from corral.aio import run_blocking
from corral.core import Message
from corral.errors import InvalidRequest
from corral.inference.preparing.sounds import duration_s, is_sound

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 64 * 10**6  # decoded, 3 bytes each, in the engine as well
MAX_SIDE = 16384
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
_KEEP = frozenset({"PNG", "JPEG", "BMP"})


async def prepare_images(images: Sequence[bytes]) -> tuple[bytes, ...]:
    """The images as the engine takes them, off the loop; raises InvalidRequest saying which one is bad, and why."""
    if not images:
        return ()
    return tuple([await run_blocking(prepare_image, data, index) for index, data in enumerate(images)])


async def prepare_message_images(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with their images as the engine takes them."""
    return tuple(
        [
            replace(message, images=await prepare_images(message.images)) if message.images else message
            for message in messages
        ]
    )


def prepare_image(data: bytes, index: int = 0) -> bytes:
    """One image or sound, verified by decoding it whole; the first frame of an animation. Raises InvalidRequest."""
    if is_sound(data):
        duration_s(data, index)
        return data
    from PIL import Image, UnidentifiedImageError  # with the first image: most servers see none

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check_size(image, index)
                image.load()
                return data if image.format in _KEEP else _as_png(image)
    except UnidentifiedImageError:
        raise _bad(index, "it is no PNG, JPEG, WebP, GIF or BMP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _bad(index, f"it has more than {MAX_PIXELS} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, MemoryError) as error:
        raise _bad(index, f"it cannot be decoded: {error}") from None


def _check_size(image: Image.Image, index: int) -> None:
    width, height = image.size
    if width < 2 or height < 2:
        raise _bad(index, f"{width} x {height} pixels are too few: 2 x 2 is the least")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise _bad(index, f"{width} x {height} pixels are too many: at most {MAX_SIDE} a side and {MAX_PIXELS} in all")


def _as_png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB").save(out, "PNG")
    return out.getvalue()


def _bad(index: int, why: str) -> InvalidRequest:
    return InvalidRequest(f"image {index + 1} cannot be used: {why}", field="images")
