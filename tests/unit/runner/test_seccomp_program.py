"""The seccomp filter, run by a small interpreter of its instructions."""

from __future__ import annotations

import errno
import struct

import pytest

from corral.runner.seccomp import program

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
X86, ARM = 0xC000003E, 0xC00000B7
PID = 4242


def verdict(code: bytes, arch: int, number: int, *arguments: int) -> int:
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, arch, 0, *words)
    position, accumulator = 0, 0
    while True:
        kind, when_true, when_false, k = struct.unpack_from("HBBI", code, 8 * position)
        position += 1
        if kind == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif kind == 0x06:
            return int(k)
        else:
            met = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[kind]
            position += when_true if met else when_false


@pytest.mark.parametrize(
    ("number", "arguments", "error"),
    [
        (0, (), 0),  # read
        (9, (), 0),  # mmap
        (41, (1,), 0),  # socket(AF_UNIX)
        (41, (2,), errno.EACCES),  # socket(AF_INET)
        (41, (16,), errno.EACCES),  # socket(AF_NETLINK)
        (59, (), errno.EPERM),  # execve
        (322, (), errno.EPERM),  # execveat
        (57, (), errno.EPERM),  # fork
        (56, (0x3D0F00,), 0),  # clone, as pthread_create calls it
        (56, (17,), errno.EPERM),  # clone, as fork calls it
        (435, (), errno.ENOSYS),  # clone3
        (62, (PID,), 0),  # kill(self)
        (62, (1,), errno.EPERM),
        (234, (PID,), 0),  # tgkill(self)
        (101, (), errno.EPERM),  # ptrace
        (425, (), errno.EPERM),  # io_uring_setup
        (0x40000000 | 59, (), errno.ENOSYS),  # x32
    ],
)
def test_calls_on_x86(number: int, arguments: tuple[int, ...], error: int) -> None:
    code = program("x86_64", PID, may_exec=False)
    assert verdict(code, X86, number, *arguments) == (ERRNO | error if error else ALLOW)


@pytest.mark.parametrize(
    ("number", "arguments", "error"),
    [(63, (), 0), (198, (1,), 0), (198, (2,), errno.EACCES), (221, (), errno.EPERM), (220, (17,), errno.EPERM)],
)
def test_calls_on_arm(number: int, arguments: tuple[int, ...], error: int) -> None:
    code = program("aarch64", PID, may_exec=False)
    assert verdict(code, ARM, number, *arguments) == (ERRNO | error if error else ALLOW)


def test_another_architectures_numbers_kill() -> None:
    assert verdict(program("x86_64", PID, may_exec=False), ARM, 0) == KILL


def test_an_external_engine_may_be_started_but_nothing_else_changes() -> None:
    code = program("x86_64", PID, may_exec=True)
    assert verdict(code, X86, 59) == ALLOW
    assert verdict(code, X86, 56, 17) == ALLOW
    assert verdict(code, X86, 101) == ERRNO | errno.EPERM
    assert verdict(code, X86, 41, 2) == ERRNO | errno.EACCES
