"""A seccomp filter: which system calls a process may still make. Linux on x86-64 and AArch64; child only.

The program is classic BPF over `struct seccomp_data` (nr, arch, ip, six 64-bit arguments). Denied calls fail with
EPERM rather than kill, so that a library that merely tries something goes on without it.
Source of numbers: linux/seccomp.h, linux/bpf_common.h, asm/unistd.h of both architectures.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH = 0, 4  # offsets in seccomp_data
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_CLONE_THREAD = 0x00010000
_X32_BIT = 0x40000000

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None = the architecture has no such call
_ALWAYS_DENIED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),  # its operations would pass by this filter
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "quotactl": (179, 60),
    "open_by_handle_at": (304, 265),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "personality": (135, 92),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "tkill": (200, 130),
}
_PROCESS_CALLS = {"execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None)}
_SOCKET, _SOCKETPAIR = (41, 198), (53, 199)
_CLONE, _CLONE3 = (56, 220), (435, 435)
_KILL_CALL, _TGKILL = (62, 129), (234, 131)


def install(*, may_exec: bool = False) -> None:
    """Filter the calls of this process, all threads to come included; there is no way back.

    Denied: every socket but AF_UNIX, new processes and programs (unless may_exec), ptrace, mounts, namespaces,
    modules, keys, signals to others. Needs no_new_privs; raises OSError where the kernel or CPU is not supported.
    """
    machine = platform.machine()
    if machine not in _AUDIT_ARCH:
        raise OSError(errno.ENOSYS, f"no filter for {machine}")
    code = program(machine, os.getpid(), may_exec=may_exec)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.create_string_buffer(header, len(header)), 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def program(machine: str, pid: int, *, may_exec: bool) -> bytes:
    """The filter as `struct sock_filter[]`. Pure. Blocks are small and end in a return, so jumps stay short."""
    column = list(_AUDIT_ARCH).index(machine)
    code = [
        _op(_LD, _ARCH),
        _op(_JEQ, _AUDIT_ARCH[machine], 1, 0),
        _op(_RET, _KILL),  # another architecture's numbers mean other calls
        _op(_LD, _NUMBER),
        _op(_JGE, _X32_BIT, 0, 1),
        _deny(errno.ENOSYS),
    ]
    denied = dict(_ALWAYS_DENIED) if may_exec else _ALWAYS_DENIED | _PROCESS_CALLS
    for numbers in denied.values():
        number = numbers[column]
        if number is not None:
            code += [_op(_JEQ, number, 0, 1), _deny(errno.EPERM)]
    for call in (_SOCKET, _SOCKETPAIR):
        code += _only_if_equal(call[column], 0, socket.AF_UNIX, errno.EACCES)
    for call in (_KILL_CALL, _TGKILL):
        code += _only_if_equal(call[column], 0, pid, errno.EPERM)
    if not may_exec:
        # threads are clone(CLONE_THREAD); clone3 hides its flags behind a pointer, and glibc falls back to clone
        code += [_op(_JEQ, _CLONE3[column], 0, 1), _deny(errno.ENOSYS)]
        code += [_op(_JEQ, _CLONE[column], 0, 4), _op(_LD, _argument(0)), _op(_JSET, _CLONE_THREAD, 1, 0)]
        code += [_deny(errno.EPERM), _op(_RET, _ALLOW)]
    code.append(_op(_RET, _ALLOW))
    return b"".join(code)


def _only_if_equal(number: int, index: int, value: int, error: int) -> list[bytes]:
    """Allow a call when the low word of one argument has a value, else fail it; other calls go on."""
    return [
        _op(_JEQ, number, 0, 4),
        _op(_LD, _argument(index)),
        _op(_JEQ, value, 1, 0),
        _deny(error),
        _op(_RET, _ALLOW),
    ]


def _argument(index: int) -> int:
    return 16 + 8 * index  # the low word: both architectures are little-endian


def _deny(error: int) -> bytes:
    return _op(_RET, _ERRNO | error)


def _op(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, k)
