"""Landlock through its system calls: which files a process can still reach. Linux 5.13 and later; child only.

Source of numbers and structures: linux/landlock.h, Documentation/userspace-api/landlock.rst (ABI 1 to 7).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from enum import IntFlag
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_QUERY_VERSION = 1
_RULE_PATH_BENEATH = 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2
_BIND_TCP, _CONNECT_TCP = 1, 2


class Access(IntFlag):
    """LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13  # ABI 2
    TRUNCATE = 1 << 14  # ABI 3
    IOCTL_DEV = 1 << 15  # ABI 5


READ = Access.READ_FILE | Access.READ_DIR
_FILE_RIGHTS = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
_RIGHTS_BY_ABI = ((1, (1 << 13) - 1), (2, Access.REFER), (3, Access.TRUNCATE), (5, Access.IOCTL_DEV))


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


_RULESET_BYTES = ((1, 8), (4, 16), (6, 24))  # how much of _Ruleset each ABI knows


def abi_version() -> int:
    """The kernel's Landlock ABI; raises OSError when it has none or it is switched off."""
    return _call(_CREATE_RULESET, None, 0, _QUERY_VERSION)


def restrict(rules: Mapping[Path, Access]) -> int:
    """Confine this thread, and all it will start, to the paths and rights given; returns the ABI used.

    A path that does not exist is skipped: nothing can be read there. TCP, abstract sockets and signals to processes
    outside are denied as far as the ABI can. Needs no_new_privs; raises OSError.
    """
    abi = abi_version()
    handled = 0
    for since, rights in _RIGHTS_BY_ABI:
        handled |= int(rights) if abi >= since else 0
    ruleset = _Ruleset(handled, _BIND_TCP | _CONNECT_TCP, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS)
    size = max(length for since, length in _RULESET_BYTES if abi >= since)
    fd = _call(_CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    try:
        for path, access in rules.items():
            _allow(fd, path, int(access) & handled)
        _call(_RESTRICT_SELF, fd, 0)
    finally:
        os.close(fd)
    return abi


def _allow(ruleset_fd: int, path: Path, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            access &= int(_FILE_RIGHTS)
        rule = _PathBeneath(access, fd)
        _call(_ADD_RULE, ruleset_fd, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(ctypes.c_long(number), *(_word(argument) for argument in arguments)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _word(argument: object) -> object:
    return ctypes.c_long(argument) if isinstance(argument, int) else argument
