"""The child: leash, sandbox, then `xllamacpp.Server` until the leash is cut. `python -m corral.runner.child`.

The only module that imports the binding. Started by handle.py, which sends a Job over stdin. Order matters: the leash
first, so that nothing outlives the server; the binding's own libraries next, because they are trusted; then the
sandbox; then the model, which is not.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from corral.runner import sandbox
from corral.runner.flags import Flag, engine_flags, server_arguments
from corral.runner.hugepages import Collapser, Way
from corral.runner.job import Job, message
from corral.runner.kernels import KernelsUnusable, check_pack, exchange, read_pack

# flag: (enumeration of the binding, value -> member)
_ENUMS = {
    "load_mode": ("llama_load_mode", {"none": "LLAMA_LOAD_MODE_NONE", "mmap": "LLAMA_LOAD_MODE_MMAP"}),
    "split_mode": ("llama_split_mode", {"none": "LLAMA_SPLIT_MODE_NONE"}),
    "pooling_type": ("llama_pooling_type", {"rank": "LLAMA_POOLING_TYPE_RANK"}),
    "flash_attn_type": (
        "llama_flash_attn_type",
        {"on": "LLAMA_FLASH_ATTN_TYPE_ENABLED", "off": "LLAMA_FLASH_ATTN_TYPE_DISABLED"},
    ),
}
# flag: where CommonParams has it, if not under that name
_PLACES = {
    "model": ("model.path",),
    "mmproj": ("mmproj.path",),
    "draft": ("speculative.draft.mparams.path",),
    "draft_n_max": ("speculative.draft.n_max",),
    # the engine drafts nothing that is shorter than what agreed
    "ngram": ("speculative.ngram_simple.size_n", "speculative.ngram_simple.size_m"),
    "n_threads": ("cpuparams.n_threads", "cpuparams_batch.n_threads"),
    "prompt_threads": ("cpuparams_batch.n_threads",),
}
_EXIT_LOAD_FAILED = 1
_EXIT_NO_PARENT = 3
_LOG_LAG_S = 0.5


def main() -> NoReturn:
    """Read the job, become the runner. Never returns."""
    os.umask(0o077)
    job = Job.from_json(_read_line(0).decode())
    sandbox.close_inherited(job.descriptors)
    _leash(job.parent_pid)
    sandbox.go_first()
    flags = engine_flags(job.spec, job.options, job.socket_path)
    if job.options.llama_server:
        _become_external(job, flags)
    _serve(job, flags)


def _read_line(fd: int) -> bytes:
    """The job; nothing follows it but the end of file."""
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(fd, 65536)
        if not chunk:
            os._exit(_EXIT_NO_PARENT)
        line += chunk
    return bytes(line)


def _leash(parent_pid: int) -> None:
    """Die with the server, however it dies.

    The end of stdin raises SIGIO, whose default action ends the process even while the engine holds the interpreter's
    lock; on Linux the kernel also kills us when the parent goes. Both survive an exec.
    """
    for number in (signal.SIGIO, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    sandbox.die_with_parent()
    if os.getppid() != parent_pid:  # it died before the leash was on
        os._exit(_EXIT_NO_PARENT)


def _become_external(job: Job, flags: list[Flag]) -> NoReturn:
    report = sandbox.confine(sandbox.plan(job, external=True)) if job.options.sandbox else sandbox.disabled()
    os.write(job.message_fd, message("sandbox", active=report.active, missing=dict(report.missing)))
    os.close(job.message_fd)
    os.dup2(1, 2)
    try:
        os.execv(job.options.llama_server, [job.options.llama_server, *server_arguments(flags)])  # noqa: S606  no shell is wanted
    except OSError as error:
        sys.stderr.write(f"E cannot start the engine: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(_EXIT_LOAD_FAILED)


def _serve(job: Job, flags: list[Flag]) -> NoReturn:
    import xllamacpp  # after the leash: it takes a while

    _exchange_kernels(xllamacpp, job.options.kernels)
    params = xllamacpp.CommonParams()
    for flag in flags:
        _set(xllamacpp, params, flag)
    flush_log = _log_flusher(xllamacpp)
    collapser = _collapser(job)
    report = sandbox.confine(sandbox.plan(job)) if job.options.sandbox else sandbox.disabled()
    os.write(job.message_fd, message("sandbox", active=report.active, missing=dict(report.missing)))
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # noqa: BLE001  the child's edge: the parent gets the engine's words from the log
        flush_log()
        os.write(job.message_fd, message("failed", reason=str(error)))
        os._exit(_EXIT_LOAD_FAILED)
    if collapser is not None and job.options.is_measured:
        collapser.collapse()
    os.write(job.message_fd, message("ready", address=server.listening_address))
    if collapser is not None:
        collapser.follow()
    while True:
        signal.pause()


def _exchange_kernels(xllamacpp: Any, folder: str) -> None:
    """Before any other call into the engine, and before the sandbox closes; a pack that cannot be used is not."""
    pack = read_pack(Path(folder)) if folder else None
    if pack is None:
        return
    try:
        check_pack(pack)  # the parent has, but files can change
        exchange(xllamacpp.xllamacpp.__file__, pack.folder)
    except (KernelsUnusable, OSError) as error:
        sys.stderr.write(f"W the engine's own kernels are used: {error}\n")
        sys.stderr.flush()


def _collapser(job: Job) -> Collapser | None:
    """What will put the runner's memory into huge pages, if it shall and can."""
    if job.options.huge_pages is not Way.COLLAPSED:
        return None
    try:
        return Collapser()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"W no huge pages: {error}\n")
        sys.stderr.flush()
        return None


def _log_flusher(xllamacpp: Any) -> Callable[[], None]:
    """What waits until the engine's log is written: a thread of its own writes it, and may be late on a busy host."""
    try:
        engine = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
        get_log, flush = engine._Z15common_log_mainv, engine._Z16common_log_flushP10common_log  # common/log.h
    except (OSError, AttributeError):
        return lambda: time.sleep(_LOG_LAG_S)
    get_log.restype = ctypes.c_void_p
    flush.argtypes = [ctypes.c_void_p]
    return lambda: flush(get_log())


def _set(xllamacpp: Any, params: Any, flag: Flag) -> None:
    """Put one setting where CommonParams has it; most are attributes of the same name."""
    value = str(flag.value) if isinstance(flag.value, Path) else flag.value
    match flag.name:
        case "speculation":
            kind = f"COMMON_SPECULATIVE_TYPE_{value.upper().replace('-', '_')}"
            params.speculative.types = [getattr(xllamacpp.common_speculative_type, kind)]
        case "lora":
            params.lora_adapters = [*params.lora_adapters, xllamacpp.CommonAdapterLoraInfo(value, 1.0)]
        case "cache_type_k" | "cache_type_v":
            setattr(params, flag.name, getattr(xllamacpp.ggml_type, f"GGML_TYPE_{value.upper()}"))
        case name if name in _ENUMS:
            kind, members = _ENUMS[name]
            setattr(params, name, getattr(getattr(xllamacpp, kind), members[value]))
        case name:
            for place in _PLACES.get(name, (name,)):
                *way, attribute = place.split(".")
                setattr(functools.reduce(getattr, way, params), attribute, value)


if __name__ == "__main__":
    main()
