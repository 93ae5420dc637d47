"""What the C library is told: large requests give their memory back, pieces of files keep theirs."""

from __future__ import annotations

from corral.registry import client, transfer
from corral.server import memory
from corral.server.native import blobs


def test_the_pieces_of_uploads_and_downloads_get_no_pages_of_their_own() -> None:
    """They were new for each piece once, which took longer than reading, hashing and writing it."""
    largest = max(transfer._WRITE_BYTES, transfer._HASH_CHUNK_BYTES, blobs._WRITE_BYTES)
    assert largest + client._READ_BUFFER_BYTES < memory._OWN_PAGES_FROM
