"""An HTTP client on a bare socket, for what well-behaved ones never do: stall, vanish, send nonsense."""

from __future__ import annotations

import json
import re
import socket
import struct
from typing import Any


class RawClient:
    """One connection. Leaving the `with` block closes it the polite way unless it is gone already."""

    def __init__(self, port: int, timeout_s: float = 60.0, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout_s)
        self.socket.connect(("127.0.0.1", port))

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def post(self, path: str, body: Any, headers: str = "") -> None:
        """Send a request; nothing is read. `headers`: lines, each with its CRLF."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len(data)}\r\n\r\n"
        self.socket.sendall(head.encode() + data)

    def receive(self, at_least: int = 1) -> bytes:
        """Read until so many bytes are there, or the other side has closed."""
        data = b""
        while len(data) < at_least:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
        return data

    def receive_answer(self) -> bytes:
        """Read one whole answer, chunked or with a length, and leave the connection open."""
        data = b""
        while not _is_whole(data) and (piece := self.receive()):
            data += piece
        return data

    def receive_all(self) -> bytes:
        """Read until the other side closes."""
        return self.receive(2**62)

    def vanish(self) -> None:
        """Leave with a reset, as a killed machine's kernel or a NAT box answers for a client that is gone."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def _is_whole(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)^content-length: (\d+)", head, re.MULTILINE)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")
