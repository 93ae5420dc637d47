"""What a file is, judged by its first bytes, as far as the commands need it. Pure. Source: Go net/http sniff.go."""

from __future__ import annotations

SNIFF_BYTES = 512
TEXT = "text/plain"
ZIP = "application/zip"
BINARY = "application/octet-stream"

_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", ZIP),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"<?xml", "text/xml"),
)
_RIFF = {b"WEBPVP": "image/webp", b"WAVE": "audio/wave", b"AVI ": "video/avi"}
_NOT_IN_TEXT = frozenset(range(0x20)) - {0x09, 0x0A, 0x0C, 0x0D, 0x1B}


def detect(head: bytes) -> str:
    """The type without parameters; BINARY when nothing matches and a byte is no text's."""
    head = head[:SNIFF_BYTES]
    if head.startswith(b"RIFF"):
        for mark, kind in _RIFF.items():
            if head[8:].startswith(mark):
                return kind
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return BINARY if any(byte in _NOT_IN_TEXT for byte in head) else TEXT
