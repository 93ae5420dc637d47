"""The seccomp filter, run by a small interpreter of its instructions."""

from __future__ import annotations

import errno
import struct

import pytest

from corral.runner.seccomp import Needs, program

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
        elif kind == 0x54:
            accumulator &= k
        elif kind == 0x06:
            return int(k)
        else:
            met = {0x15: accumulator == k, 0x25: accumulator > k, 0x45: bool(accumulator & k)}[kind]
            position += when_true if met else when_false


@pytest.mark.parametrize(
    ("number", "arguments", "error"),
    [
        (0, (), 0),  # read
        (9, (), 0),  # mmap
        (9, (0, 4096, 3, 0x22), 0),  # mmap, private and anonymous
        (9, (0, 4096, 3, 0x21), errno.EPERM),  # the same, shared
        (41, (1, 1 | 0x80000), 0),  # socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        (41, (1, 2), errno.EACCES),  # a datagram socket
        (41, (1, 5), errno.EACCES),  # SOCK_SEQPACKET
        (41, (2, 1), errno.EACCES),  # socket(AF_INET)
        (41, (16, 3), errno.EACCES),  # socket(AF_NETLINK)
        (53, (1, 1), 0),  # socketpair
        (53, (1, 2), errno.EACCES),
        (42, (), errno.EPERM),  # connect
        (44, (5, 1, 1, 0, 0, 0), 0),  # send, as the C library calls it
        (44, (5, 1, 1, 0, 0x7F0000000000, 16), errno.EACCES),  # sendto with an address, low word 0
        (302, (0, 7, 0, 1), 0),  # prlimit: its own, read
        (302, (0, 7, 1, 0), errno.EPERM),  # its own, set
        (302, (1, 7, 0, 1), errno.EPERM),  # another's
        (157, (15,), 0),  # prctl(PR_SET_NAME)
        (157, (1,), errno.EPERM),  # prctl(PR_SET_PDEATHSIG)
        (72, (3, 2), 0),  # fcntl(F_SETFD)
        (72, (3, 8), errno.EPERM),  # fcntl(F_SETOWN)
        (16, (3, 0x5421), 0),  # ioctl(FIONBIO)
        (16, (0, 0x5412), errno.EPERM),  # ioctl(TIOCSTI)
        (203, (0,), 0),  # sched_setaffinity of itself
        (203, (1,), errno.EPERM),
        (141, (0, 0), 0),  # setpriority of itself
        (141, (2, 0), errno.EPERM),  # of all the user's processes
        (29, (), errno.EPERM),  # shmget
        (268, (), errno.EPERM),  # fchmodat
        (319, (), errno.EPERM),  # memfd_create
        (59, (), errno.EPERM),  # execve
        (322, (), errno.EPERM),  # execveat
        (57, (), errno.EPERM),  # fork
        (56, (0x3D0F00,), 0),  # clone, as pthread_create calls it
        (56, (17,), errno.EPERM),  # clone, as fork calls it
        (56, (0x103D0F00,), errno.EPERM),  # a thread in a user namespace of its own
        (435, (), errno.ENOSYS),  # clone3
        (62, (PID,), 0),  # kill(self)
        (62, (1,), errno.EPERM),
        (234, (PID,), 0),  # tgkill(self)
        (101, (), errno.EPERM),  # ptrace
        (425, (), errno.EPERM),  # io_uring_setup
        (470, (), errno.ENOSYS),  # what a later kernel has
        (0x40000000 | 59, (), errno.ENOSYS),  # x32
    ],
)
def test_calls_on_x86(number: int, arguments: tuple[int, ...], error: int) -> None:
    code = program("x86_64", PID, Needs())
    assert verdict(code, X86, number, *arguments) == (ERRNO | error if error else ALLOW)


@pytest.mark.parametrize(
    ("number", "arguments", "error"),
    [
        (63, (), 0),
        (198, (1, 1), 0),
        (198, (2, 1), errno.EACCES),
        (203, (), errno.EPERM),
        (53, (), errno.EPERM),  # fchmodat
        (221, (), errno.EPERM),
        (220, (17,), errno.EPERM),
    ],
)
def test_calls_on_arm(number: int, arguments: tuple[int, ...], error: int) -> None:
    code = program("aarch64", PID, Needs())
    assert verdict(code, ARM, number, *arguments) == (ERRNO | error if error else ALLOW)


def test_another_architectures_numbers_kill() -> None:
    assert verdict(program("x86_64", PID, Needs()), ARM, 0) == KILL


def test_a_script_that_starts_an_engine_may_start_others_but_nothing_else_changes() -> None:
    code = program("x86_64", PID, Needs(execs=True, forks=True))
    assert verdict(code, X86, 59) == ALLOW
    assert verdict(code, X86, 56, 17) == ALLOW
    assert verdict(code, X86, 56, 0x10000011) == ERRNO | errno.EPERM  # in a user namespace of its own
    assert verdict(code, X86, 56, 0x8011) == ERRNO | errno.EPERM  # as a child of the server
    assert verdict(code, X86, 435) == ERRNO | errno.ENOSYS
    assert verdict(code, X86, 101) == ERRNO | errno.EPERM
    assert verdict(code, X86, 41, 2, 1) == ERRNO | errno.EACCES


def test_an_external_engine_that_is_a_program_starts_no_process() -> None:
    code = program("x86_64", PID, Needs(execs=True))
    assert verdict(code, X86, 59) == ALLOW
    assert verdict(code, X86, 57) == ERRNO | errno.EPERM
    assert verdict(code, X86, 56, 17) == ERRNO | errno.EPERM


def test_a_gpus_driver_may_do_what_it_is_known_to_do_and_still_reaches_nobody() -> None:
    code = program("x86_64", PID, Needs(driver=True))
    allowed = [(41, 1, 5), (319,), (9, 0, 4096, 3, 0x21), (203, 77), (82,)]
    assert [verdict(code, X86, *call) for call in allowed] == [ALLOW] * len(allowed)
    denied = [(42,), (41, 1, 2), (41, 2, 1), (59,), (268,), (29,)]
    assert not any(verdict(code, X86, *call) == ALLOW for call in denied)
