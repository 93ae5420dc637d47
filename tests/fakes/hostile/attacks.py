"""What a taken-over engine would try, by class; run in a runner's sandbox by the two hostile engines beside this file.

Standard library only: the child that runs it may be another interpreter than pytest's. Nothing here does harm where a
defence is missing: arguments are wrong in a way that a call which gets through complains of.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

REFUSED = {errno.EPERM, errno.EACCES, errno.ENOSYS}
X86 = os.uname().machine == "x86_64"
AF_ALG, AF_VSOCK = 38, 40
_libc = ctypes.CDLL(None, use_errno=True)

Attack = Callable[[], object]


def call(x86: int | None, arm: int | None, *arguments: object) -> int:
    """A system call by its number on this machine; raises OSError."""
    number = x86 if X86 else arm
    if number is None:
        raise OSError(errno.ENOSYS, "no such call on this machine")
    words = [word if isinstance(word, bytes) else ctypes.c_long(int(word)) for word in arguments]  # type: ignore[call-overload]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Place:
    """Where the attacker finds itself: what is its own, and what it would like to have."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.model: str = facts["model"]
        self.secret: str = facts["secret"]  # another file of the same user
        self.foreign_socket: str = facts["foreign_socket"]  # somebody else listens there
        self.abstract: str = facts["abstract"]
        self.datagrams: str = facts["datagrams"]
        self.tcp_port: int = facts["tcp_port"]
        self.inherited: int = facts["inherited"]  # a descriptor that the server had open
        self.parent: int = facts["parent"]
        self.run: str = facts["run"]
        self.kv: str = facts["kv"]
        self.max_file_bytes: int = facts["max_file_bytes"]
        self.memory_limit_bytes: int = facts["memory_limit_bytes"]


def files(place: Place) -> dict[str, Attack]:
    return {
        "read another file": lambda: Path(place.secret).read_bytes(),
        "open another file as O_PATH and read it": lambda: Path(
            f"/proc/self/fd/{os.open(place.secret, os.O_PATH)}"
        ).read_bytes(),
        "list the folder above": lambda: os.listdir(Path(place.secret).parent),
        "read /etc/passwd": lambda: Path("/etc/passwd").read_bytes(),
        "read the server's environment": lambda: Path(f"/proc/{place.parent}/environ").read_bytes(),
        "read the server's memory": lambda: open(f"/proc/{place.parent}/mem", "rb").read(1),
        "write the model": lambda: open(place.model, "r+b"),
        "truncate the model": lambda: os.truncate(place.model, 0),
        "remove the model": lambda: os.unlink(place.model),
        "write another file": lambda: open(place.secret, "ab"),
        "make a file beside it": lambda: open(place.secret + ".new", "w"),
        "make a file in /tmp": lambda: open(f"/tmp/corral-hostile-{os.getpid()}", "w"),
        "make a file beside the socket": lambda: open(place.run + "/more", "w"),
        "make a file in the kv folder": lambda: open(place.kv + "/more.kv", "w"),
        "make a folder in the kv folder": lambda: os.mkdir(place.kv + "/folder"),
        "make a link in the kv folder": lambda: os.symlink(place.secret, place.kv + "/link"),
        "make a hard link in the kv folder": lambda: os.link(place.model, place.kv + "/hard"),
        "make a fifo in the kv folder": lambda: os.mkfifo(place.kv + "/fifo"),
        "rename the slot's file": lambda: os.rename(place.kv + "/slot.part", place.kv + "/more.kv"),
        "remove the slot's file": lambda: os.unlink(place.kv + "/slot.part"),
    }


def attributes(place: Place) -> dict[str, Attack]:
    own = os.open(place.model, os.O_RDONLY)
    name = place.secret.encode() + b"\0"
    return {
        "chmod of another file": lambda: os.chmod(place.secret, 0o4777),
        "chmod of the model": lambda: os.chmod(place.model, 0),
        "fchmod of the model": lambda: os.fchmod(own, 0),
        "fchmodat": lambda: call(268, 53, -100, name, 0o644),
        "fchmodat2": lambda: call(452, 452, -100, name, 0o644, 0),
        "chown": lambda: os.chown(place.secret, os.getuid(), os.getgid()),
        "lchown": lambda: os.lchown(place.secret, os.getuid(), os.getgid()),
        "fchown": lambda: os.fchown(own, os.getuid(), os.getgid()),
        "fchownat": lambda: call(260, 54, -100, name, os.getuid(), os.getgid(), 0),
        "utimensat": lambda: call(280, 88, -100, name, 0, 0),
        "utimes": lambda: call(235, None, name, 0),
        "utime": lambda: os.utime(place.secret, (1, 1)),
        "futimens": lambda: os.utime(own, (1, 1)),
        "setxattr": lambda: os.setxattr(place.secret, "user.x", b"x"),
        "fsetxattr": lambda: os.setxattr(own, "user.x", b"x"),
        "removexattr": lambda: os.removexattr(place.secret, "user.x"),
        "setxattrat": lambda: call(463, 463, -100, name, 0, b"user.x\0", 0, 0),
        "file_setattr": lambda: call(469, 469, -100, name, 0, 0, 0),
        "inode flags": lambda: fcntl.ioctl(own, 0x40086602, struct.pack("l", 0)),
        "fs-verity": lambda: fcntl.ioctl(own, 0x40806685, bytes(128)),
        "a lease on the model": lambda: fcntl.fcntl(own, 1024, fcntl.F_RDLCK),
        "mknod": lambda: os.mknod(place.kv + "/device", 0o600 | 0o020000, os.makedev(1, 3)),
    }


def network(place: Place) -> dict[str, Attack]:
    stream, _other = socket.socketpair()

    def connect(address: str) -> None:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.connect(address)

    return {
        "connect over TCP": lambda: socket.create_connection(("127.0.0.1", place.tcp_port), 1),
        "a TCP socket over IPv6": lambda: socket.socket(socket.AF_INET6),
        "a UDP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "a vsock socket": lambda: socket.socket(AF_VSOCK, socket.SOCK_STREAM),
        "a crypto socket": lambda: socket.socket(AF_ALG, socket.SOCK_SEQPACKET),
        "connect to another's Unix socket": lambda: connect(place.foreign_socket),
        "connect to an abstract socket": lambda: connect(place.abstract),
        "a Unix datagram socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "a pair of datagram sockets": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
        "a Unix seqpacket socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
        "sendto an address": lambda: stream.sendto(b"x", place.datagrams),
    }


def processes(place: Place) -> dict[str, Attack]:
    own = os.open(place.model, os.O_RDONLY)
    stream, _other = socket.socketpair()
    return {
        "signal the server": lambda: os.kill(place.parent, 0),
        "signal everybody": lambda: call(62, 129, -1, 0),
        "tgkill": lambda: call(234, 131, place.parent, place.parent, 0),
        "tkill": lambda: call(200, 130, place.parent, 0),
        "rt_sigqueueinfo": lambda: call(129, 138, place.parent, 0, 0),
        "rt_tgsigqueueinfo": lambda: call(297, 240, place.parent, place.parent, 0, 0),
        "pidfd_open": lambda: call(434, 434, place.parent, 0),
        "pidfd_send_signal": lambda: call(424, 424, -1, 0, 0, 0),
        "pidfd_getfd": lambda: call(438, 438, -1, 0, 0),
        "signals by a socket's owner": lambda: fcntl.fcntl(stream, 8, place.parent),
        "signals by ioctl": lambda: fcntl.ioctl(stream, 0x8901, struct.pack("i", place.parent)),
        "signals by a lease": lambda: fcntl.fcntl(own, 10, signal.SIGTERM),
        "ptrace": lambda: call(101, 117, 0x4206, place.parent, 0, 0),
        "read the server's memory by call": lambda: call(310, 270, place.parent, 0, 0, 0, 0, 0),
        "write the server's memory": lambda: call(311, 271, place.parent, 0, 0, 0, 0, 0),
        "process_madvise": lambda: call(440, 440, -1, 0, 0, 0, 0),
        "move the server's pages": lambda: call(279, 239, place.parent, 0, 0, 0, 0, 0),
        "kcmp": lambda: call(312, 272, place.parent, os.getpid(), 0, 0, 0),
        "the server's limits": lambda: call(302, 261, place.parent, 7, 0, 0),
        "its own limits": lambda: call(302, 261, 0, 7, struct.pack("QQ", 64, 64), 0),
        "its own limits, the older way": lambda: call(160, 164, 7, struct.pack("QQ", 64, 64)),
        "the server's priority": lambda: os.setpriority(os.PRIO_PROCESS, place.parent, 0),
        "the user's priority": lambda: os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_PROCESS, 0)),
        "the server's cores": lambda: os.sched_setaffinity(place.parent, os.sched_getaffinity(0)),
        "the server's I/O priority": lambda: call(251, 30, 1, place.parent, 0),
        "leave the group": lambda: os.setpgid(0, 0),
        "leave the session": os.setsid,
        "outlive the server": lambda: call(157, 167, 1, 0, 0, 0, 0),
        "take in orphans": lambda: call(157, 167, 36, 1, 0, 0, 0),
    }


def spawning(_: Place) -> dict[str, Attack]:
    """A script that starts an external engine may do this; nobody else."""
    return {
        "exec": lambda: os.execv("/nowhere", ["nowhere"]),
        "fork": _fork,
        "vfork": lambda: call(58, None),
        "clone": lambda: call(56, 220, 0x11 | 0x4000, 0, 0, 0, 0) or os._exit(0),
        "posix_spawn": lambda: os.posix_spawn("/nowhere", ["nowhere"], {}),
    }


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def kernel(_: Place) -> dict[str, Attack]:
    return {
        "clone3": lambda: call(435, 435, 0, 0),
        "a new user namespace by clone": lambda: call(56, 220, 0x10000011, 0, 0, 0, 0) or os._exit(0),
        "unshare a user namespace": lambda: call(272, 97, 0x10000000),
        "setns": lambda: call(308, 268, -1, 0),
        "mount": lambda: call(165, 40, 0, 0, 0, 0, 0),
        "umount": lambda: call(166, 39, 0, 0),
        "pivot_root": lambda: call(155, 41, 0, 0),
        "chroot": lambda: call(161, 51, 0),
        "open_tree": lambda: call(428, 428, -1, 0, 0),
        "fsopen": lambda: call(430, 430, 0, 0),
        "move_mount": lambda: call(429, 429, -1, 0, -1, 0, 0),
        "bpf": lambda: call(321, 280, 0, 0, 0),
        "perf_event_open": lambda: call(298, 241, 0, 0, 0, -1, 0),
        "userfaultfd": lambda: call(323, 282, 1),
        "io_uring": lambda: call(425, 425, 1, 0),
        "init_module": lambda: call(175, 105, 0, 0, 0),
        "kexec_load": lambda: call(246, 104, 0, 0, 0, 0xFFFF),
        "reboot": lambda: call(169, 142, 0, 0, 0, 0),
        "swapon": lambda: call(167, 224, 0, 0),
        "acct": lambda: call(163, 89, 1),
        "the clock": lambda: call(227, 112, 99, 0),
        "the host's name": lambda: call(170, 161, 0, -1),
        "personality": lambda: call(135, 92, 0xFFFFFFFF),
        "keyctl": lambda: call(250, 219, 99, 0, 0, 0, 0),
        "add_key": lambda: call(248, 217, 0, 0, 0, 0, 0),
        "the kernel's log": lambda: call(103, 116, 10, 0, 0),
        "inotify": lambda: call(294, 26, 0),
        "fanotify": lambda: call(300, 262, 0, 0),
        "file handles": lambda: call(304, 265, -1, 0, 0),
        "become another user": lambda: call(105, 146, 65534 if os.getuid() == 0 else 0),
        "become several users": lambda: call(117, 147, -1, 0, -1),
        "capset": lambda: call(126, 91, 0, 0),
        "a call that nobody knows": lambda: call(470, 470),
    }


def memory(place: Place) -> dict[str, Attack]:
    def too_much() -> None:
        size = place.memory_limit_bytes + 2**33  # what a process reserves besides is little
        try:
            mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        except (MemoryError, OSError) as error:
            raise OSError(errno.EPERM, "too much") from error

    def fill_the_disk() -> None:
        try:
            os.truncate(place.kv + "/slot.part", place.max_file_bytes + 1)
        except OSError as error:
            raise OSError(errno.EPERM if error.errno == errno.EFBIG else error.errno, "too much") from error

    def inherited() -> None:
        try:
            os.read(place.inherited, 1)
        except OSError as error:
            raise OSError(errno.EPERM if error.errno == errno.EBADF else error.errno, "closed") from error

    return {
        "shared memory that stays (SysV)": lambda: call(29, 194, 0, 4096, 0o1000 | 0o600),
        "a message queue (SysV)": lambda: call(68, 186, 0, 0o1000 | 0o600),
        "semaphores (SysV)": lambda: call(64, 190, 0, 1, 0o1000 | 0o600),
        "a message queue (POSIX)": lambda: call(240, 180, b"corral\0", 0o102, 0o600, 0),
        "memory without a limit (memfd)": lambda: os.memfd_create("x"),
        "memory without a limit (secret)": lambda: call(447, 447, 0),
        "memory without a limit (shared)": lambda: mmap.mmap(-1, 4096),
        "large pipes": lambda: fcntl.fcntl(os.pipe()[1], 1031, 2**20),
        "more memory than the limit": too_much,
        "more on disk than the limit": fill_the_disk,
        "a descriptor of the server's": inherited,
    }


CLASSES: dict[str, Callable[[Place], dict[str, Attack]]] = {
    "files": files,
    "attributes": attributes,
    "network": network,
    "processes": processes,
    "spawning": spawning,
    "kernel": kernel,
    "memory": memory,
}


def needs(place: Place) -> dict[str, Attack]:
    """What an engine does, which must go on working."""

    def listen_and_answer() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(place.run + "/s.sock")
            server.listen()

    def thread() -> None:
        done: list[int] = []
        worker = threading.Thread(target=lambda: done.append(1))
        worker.start()
        worker.join()
        if not done:
            raise OSError(0, "no thread")

    def save_a_slot() -> None:
        with open(place.kv + "/slot.part", "wb") as part:
            part.write(b"x" * 100)
        assert Path(place.kv + "/slot.part").read_bytes() == b"x" * 100

    def private_memory() -> None:
        mmap.mmap(-1, 2**24, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()

    def map_the_model() -> None:
        with open(place.model, "rb") as model:
            mmap.mmap(model.fileno(), 0, prot=mmap.PROT_READ).close()

    def talk_over_a_pair() -> None:
        one, other = socket.socketpair()
        with one, other:
            one.send(b"x")

    return {
        "read the model": lambda: Path(place.model).read_bytes(),
        "map the model": map_the_model,
        "listen on its socket": listen_and_answer,
        "talk over a pair of its own": talk_over_a_pair,
        "save a slot": save_a_slot,
        "list what is saved": lambda: os.listdir(place.kv),
        "start a thread": thread,
        "take memory": private_memory,
        "read its own limits": lambda: call(302, 261, 0, 7, 0, 0),
        "pin itself to its cores": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
        "import from the standard library": lambda: __import__("wave"),
        "look at the processors": lambda: os.listdir("/sys/devices/system/cpu"),
    }


def _outcome(attempt: Attack) -> str:
    try:
        attempt()
    except OSError as error:
        code = error.errno or 0
        return "refused" if code in REFUSED else f"failed: {errno.errorcode.get(code, code)}"
    return "done"


def report(facts: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Class -> attack -> "refused", "done", or how else it failed; what the engine needs under "needs"."""
    place = Place(facts)
    classes = {name: make for name, make in CLASSES.items() if name not in facts["skip"]}
    results = {name: {each: _outcome(run) for each, run in make(place).items()} for name, make in classes.items()}
    results["needs"] = {each: _outcome(run) for each, run in needs(place).items()}
    return results


def attack(facts: dict[str, Any]) -> None:
    """Try everything, and print the report as one line of JSON."""
    print(json.dumps(report(facts)), flush=True)
