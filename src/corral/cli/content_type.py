"""What a file is, judged by its first bytes. Pure. Source of the signatures and their order: Go net/http sniff.go."""

from __future__ import annotations

import re

SNIFF_BYTES = 512
TEXT = "text/plain"
ZIP = "application/zip"
BINARY = "application/octet-stream"

_UTF_8 = "; charset=utf-8"
_MP4 = "video/mp4"
_TAGS = rb"!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|!--"
_SIGNATURES = tuple(
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"[\t\n\f\r ]*<(?i:" + _TAGS + rb")[ >]", "text/html" + _UTF_8),
        (rb"[\t\n\f\r ]*<\?xml", "text/xml" + _UTF_8),
        (rb"%PDF-", "application/pdf"),
        (rb"%!PS-Adobe-", "application/postscript"),
        (rb"\xfe\xff..", TEXT + "; charset=utf-16be"),
        (rb"\xff\xfe..", TEXT + "; charset=utf-16le"),
        (rb"\xef\xbb\xbf.", TEXT + _UTF_8),
        (rb"\0\0[\x01\x02]\0", "image/x-icon"),
        (rb"BM", "image/bmp"),
        (rb"GIF8[79]a", "image/gif"),
        (rb"RIFF.{4}WEBPVP", "image/webp"),
        (rb"\x89PNG\r\n\x1a\n", "image/png"),
        (rb"\xff\xd8\xff", "image/jpeg"),
        (rb"FORM.{4}AIFF", "audio/aiff"),
        (rb"ID3", "audio/mpeg"),
        (rb"OggS\0", "application/ogg"),
        (rb"MThd\0\0\0\x06", "audio/midi"),
        (rb"RIFF.{4}AVI ", "video/avi"),
        (rb"RIFF.{4}WAVE", "audio/wave"),
        (rb".{4}ftyp", _MP4),
        (rb"\x1a\x45\xdf\xa3", "video/webm"),
        (rb".{34}LP", "application/vnd.ms-fontobject"),
        (rb"\0\x01\0\0", "font/ttf"),
        (rb"OTTO", "font/otf"),
        (rb"ttcf", "font/collection"),
        (rb"wOFF", "font/woff"),
        (rb"wOF2", "font/woff2"),
        (rb"\x1f\x8b\x08", "application/x-gzip"),
        (rb"PK\x03\x04", ZIP),
        (rb"Rar!\x1a\x07(?:\0|\x01\0)", "application/x-rar-compressed"),
        (rb"\0asm", "application/wasm"),
        (rb"[^\0-\x08\x0b\x0e-\x1a\x1c-\x1f]*\Z", TEXT + _UTF_8),
    )
)


def detect(head: bytes) -> str:
    """The type, a text's with its charset; BINARY when no signature fits and a byte is no text's."""
    head = head[:SNIFF_BYTES]
    return next(
        (kind for pattern, kind in _SIGNATURES if pattern.match(head) and (kind != _MP4 or _is_mp4(head))), BINARY
    )


def _is_mp4(head: bytes) -> bool:
    """Whether the first box of an ISO media file is complete and names MP4 among its brands."""
    size = int.from_bytes(head[:4])
    brands = (head[at : at + 3] for at in range(8, size, 4) if at != 12)
    return size % 4 == 0 and size <= len(head) and b"mp4" in brands
