"""An external engine that serves well until it is asked for more: `HOSTILE` names what it does then."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\n"
PROPS = {"default_generation_settings": {"n_ctx": 10**9}, "total_slots": 4000, "build_info": "hostile"}
EVENT = b'data: {"content": "a"}\n\n'


def whole(value: object) -> Iterator[bytes]:
    body = json.dumps(value).encode()
    yield OK + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def flood(piece: bytes) -> Iterator[bytes]:
    yield OK + b"\r\n"
    while True:
        yield piece


def stall() -> Iterator[bytes]:
    yield OK + b"\r\n" + EVENT
    time.sleep(3600)


def informational() -> Iterator[bytes]:
    while True:
        yield b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100
        time.sleep(0.01)


def hang_up() -> Iterator[bytes]:
    yield OK + b"Content-Length: 100\r\n\r\n{"


def die() -> Iterator[bytes]:
    sys.stderr.write("0.00.1 E ggml_abort: GGML_ASSERT(false) failed\n")
    sys.stderr.flush()
    os._exit(5)
    yield b""


SCENARIOS: dict[str, Callable[[], Iterator[bytes]]] = {
    "flood": lambda: flood(EVENT * 1000),
    "nonsense": lambda: whole("no event"),
    "stall": stall,
    "informational": informational,
    "hang up": hang_up,
    "die": die,
}


def answer(path: str, scenario: str) -> Iterator[bytes]:
    if path.startswith("/health"):
        return whole({"status": "ok"})
    if path.startswith("/slots"):
        return whole([{"id": 0, "is_processing": False}])
    if path.startswith("/props"):
        return flood(b" " * 65536) if scenario == "props" else whole(PROPS)
    return whole({"tokens": "none"}) if path.startswith("/tokenize") else SCENARIOS[scenario]()


def serve(connection: socket.socket, scenario: str) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    try:
        for piece in answer(head.split()[1].decode(), scenario):
            connection.sendall(piece)
    except OSError:
        pass
    connection.close()


def log(scenario: str) -> None:
    """What a healthy engine never writes."""
    lines = b"\n" * 65536 if scenario == "log of nothing" else b"0.00.1 E at 3(5): failed to do something\n" * 1000
    while scenario.startswith("log"):
        sys.stderr.buffer.write(lines)


def main() -> None:
    scenario = os.environ["HOSTILE"]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[sys.argv.index("--host") + 1])
    listener.listen()
    for text in ("load_tensors: CPU model buffer size = 99999999999999 MiB", "x KV buffer size = 1.2.3 MiB", "E old"):
        sys.stderr.write(text + "\n")
    sys.stderr.flush()
    threading.Thread(target=log, args=(scenario,), daemon=True).start()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, scenario), daemon=True).start()


main()
