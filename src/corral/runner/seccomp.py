"""A seccomp filter: which system calls a process may still make. Linux on x86-64 and AArch64; child only.

The program is classic BPF over `struct seccomp_data` (nr, arch, ip, six 64-bit arguments). Denied calls fail with
EPERM rather than kill, so that a library that merely tries something goes on without it. What is denied stands in
syscalls.py. Source of numbers: linux/seccomp.h, linux/bpf_common.h, linux/sched.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from corral.runner import syscalls
from corral.runner.syscalls import Numbers

_LD, _AND, _JEQ, _JGT, _JSET, _RET = 0x20, 0x54, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH = 0, 4  # offsets in seccomp_data
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_CLONE_THREAD, _CLONE_PARENT = 0x00010000, 0x00008000
_CLONE_NAMESPACES = 0x7E020000
_AF_UNIX, _SOCK_STREAM, _SOCK_SEQPACKET = 1, 1, 5  # the socket module takes long to import
_SOCKET_TYPE = 0xF  # without SOCK_CLOEXEC and SOCK_NONBLOCK
_SHARED_ANONYMOUS = 0x21  # MAP_SHARED | MAP_ANONYMOUS

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


@dataclass(frozen=True, slots=True)
class Needs:
    """What a runner cannot do without, besides computing and listening on its socket.

    execs: an external engine has to be started. forks: that is a script, which may start others. driver: a GPU's
    driver, of which nobody can say what it tries.
    """

    execs: bool = False
    forks: bool = False
    driver: bool = False


def install(needs: Needs) -> None:
    """Filter the calls of this process, all threads to come included; there is no way back.

    Needs no_new_privs; raises OSError where the kernel or CPU is not supported.
    """
    machine = os.uname().machine
    if machine not in _AUDIT_ARCH:
        raise OSError(errno.ENOSYS, f"no filter for {machine}")
    code = program(machine, os.getpid(), needs)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.create_string_buffer(header, len(header)), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def program(machine: str, pid: int, needs: Needs) -> bytes:
    """The filter as `struct sock_filter[]`. Pure. Blocks are small and end in a return, so jumps stay short."""
    column = list(_AUDIT_ARCH).index(machine)
    code = [
        _op(_LD, _ARCH),
        _op(_JEQ, _AUDIT_ARCH[machine], 1, 0),
        _op(_RET, _KILL),  # another architecture's numbers mean other calls
        _op(_LD, _NUMBER),
        _op(_JGT, syscalls.LAST_KNOWN, 0, 1),  # x32's calls are among them
        _deny(errno.ENOSYS),
    ]
    for numbers in _denied(needs):
        number = numbers[column]
        if number is not None:
            code += [_op(_JEQ, number, 0, 1), _deny(errno.EPERM)]
    for numbers, rule in _conditions(pid, needs):
        number = numbers[column]
        assert number is not None
        code += [_op(_JEQ, number, 0, len(rule) + 1), *rule, _op(_RET, _ALLOW)]
    code.append(_op(_RET, _ALLOW))
    return b"".join(code)


def _denied(needs: Needs) -> Iterable[Numbers]:
    """The calls that fail whatever their arguments."""
    for calls in syscalls.ALWAYS.values():
        yield from calls.values()
    if not needs.driver:
        yield from syscalls.WITHOUT_DRIVER.values()
    if not needs.execs:
        yield from syscalls.PROGRAMS.values()
    if not needs.forks:
        yield from syscalls.PROCESSES.values()


def _conditions(pid: int, needs: Needs) -> Iterable[tuple[Numbers, list[bytes]]]:
    """The calls that fail with certain arguments, each with its rule: code that returns where it denies."""
    kinds = [_SOCK_STREAM] + ([_SOCK_SEQPACKET] if needs.driver else [])  # CUDA listens on one of these
    for call in (syscalls.SOCKET, syscalls.SOCKETPAIR):
        rule = _only(0, [_AF_UNIX], errno.EACCES)
        yield call, rule + _only(1, kinds, errno.EACCES, mask=_SOCKET_TYPE)
    yield syscalls.SENDTO, _only_null(4, errno.EACCES)  # an address: only who is connected already is spoken to
    for call in (syscalls.KILL, syscalls.TGKILL):
        yield call, _only(0, [pid], errno.EPERM)
    yield syscalls.PRLIMIT, _only(0, [0], errno.EPERM) + _only_null(2, errno.EPERM)
    yield syscalls.PRCTL, _none_of(0, syscalls.DENIED_PRCTL)
    yield syscalls.FCNTL, _none_of(1, syscalls.DENIED_FCNTL)
    yield syscalls.IOCTL, _none_of(1, syscalls.DENIED_IOCTL)
    yield syscalls.SETPRIORITY, _only(0, [0], errno.EPERM) + _only(1, [0], errno.EPERM)  # PRIO_PROCESS, itself
    yield syscalls.IOPRIO_SET, _only(0, [1], errno.EPERM) + _only(1, [0], errno.EPERM)  # IOPRIO_WHO_PROCESS, itself
    if not needs.driver:
        for call in syscalls.SCHEDULING:
            yield call, _only(0, [0], errno.EPERM)
        # no limit of a process counts shared memory
        yield syscalls.MMAP, [_load(3), _op(_AND, _SHARED_ANONYMOUS), *_refuse(_SHARED_ANONYMOUS, errno.EPERM)]
    # clone3 hides its flags behind a pointer; glibc falls back to clone
    yield syscalls.CLONE3, [_deny(errno.ENOSYS)]
    yield syscalls.CLONE, [_load(0), *_refuse_bits(_CLONE_NAMESPACES | _CLONE_PARENT), *_clone_kind(needs)]


def _clone_kind(needs: Needs) -> list[bytes]:
    """Threads only, unless processes are needed."""
    return [] if needs.forks else [_op(_JSET, _CLONE_THREAD, 1, 0), _deny(errno.EPERM)]


def _only(index: int, values: list[int], error: int, *, mask: int = 0) -> list[bytes]:
    """Fail unless the low word of an argument is one of the values."""
    masked = [_op(_AND, mask)] if mask else []
    tests = [_op(_JEQ, value, len(values) - place, 0) for place, value in enumerate(values)]
    return [_load(index), *masked, *tests, _deny(error)]


def _only_null(index: int, error: int) -> list[bytes]:
    """Fail unless a pointer is null."""
    words = (_load(index), _op(_LD, _argument(index) + 4))
    return [part for word in words for part in (word, _op(_JEQ, 0, 1, 0), _deny(error))]


def _none_of(index: int, values: Iterable[int]) -> list[bytes]:
    """Fail when the low word of an argument is one of the values."""
    return [_load(index), *(part for value in values for part in _refuse(value, errno.EPERM))]


def _refuse(value: int, error: int) -> list[bytes]:
    return [_op(_JEQ, value, 0, 1), _deny(error)]


def _refuse_bits(bits: int) -> list[bytes]:
    return [_op(_JSET, bits, 0, 1), _deny(errno.EPERM)]


def _load(index: int) -> bytes:
    return _op(_LD, _argument(index))


def _argument(index: int) -> int:
    return 16 + 8 * index  # the low word: both architectures are little-endian


def _deny(error: int) -> bytes:
    return _op(_RET, _ERRNO | error)


def _op(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, k)
