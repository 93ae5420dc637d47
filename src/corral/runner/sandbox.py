"""The runner's confinement: what a hostile model file could still do if it took the engine over. Child only.

`plan` decides what the runner needs (pure but for looking at which paths exist), `confine` takes the rest away and
reports honestly what the kernel gave. Each mechanism stands alone: one that is missing is named with its reason, and
the runner goes on with the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import resource
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from corral.runner import landlock, seccomp
from corral.runner.environment import runner_environment
from corral.runner.job import Job
from corral.runner.landlock import READ, Access
from corral.runner.seccomp import Needs
from corral.runner.spec import SandboxReport

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_SIGKILL = 9
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_READ_SEARCH = 2  # root reads a user's model store; nothing else of root's power is needed
_LAST_CAPABILITY = 63
_MAX_OPEN_FILES = 1024  # also a bound on what the kernel keeps for it in pipes and sockets
_RESERVED_BYTES, _RESERVED_BYTES_A_CORE = 128 * 2**20, 24 * 2**20  # what is asked for and not used
_OOM_SCORE = 500  # of 1000: when the host runs out of memory, a runner goes before the server and the user's programs

# what the C library, the dynamic linker, Python and the engine look at while they run
_SYSTEM_READ = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/ld.so.conf.d",
    "/etc/localtime", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom", "/proc/self", "/proc/cpuinfo",
    "/proc/meminfo", "/proc/stat", "/sys/devices/system", "/sys/fs/cgroup",
)  # fmt: skip
_GPU_READ = (
    "/proc/driver/nvidia", "/proc/devices", "/proc/sys/vm", "/sys/class/drm", "/sys/class/kfd", "/sys/devices",
    "/sys/bus/pci", "/etc/OpenCL", "/etc/vulkan", "/usr/share/vulkan", "/opt/rocm", "/usr/local/cuda",
    "/usr/local/nvidia", "/usr/lib/wsl", "/run/opengl-driver",
)  # fmt: skip
# what may be executed besides the engine's own folder: what loads programs, and for scripts what runs those
_LOADERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_SCRIPTS = (*_LOADERS, "/bin", "/usr/bin", "/usr/local/bin", sys.prefix, sys.base_prefix)
_KEEPS_FILES = READ | Access.WRITE_FILE | Access.MAKE_REG | Access.TRUNCATE | Access.REMOVE_FILE
_GPU_DEVICES = ("nvidia*", "kfd", "dri", "dxg")  # below /dev


@dataclass(frozen=True, slots=True)
class Plan:
    """Paths with the rights on them, and the limits of a runner; 0 = no limit."""

    rules: dict[Path, Access] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    max_file_bytes: int = 0  # of a file it writes
    max_data_bytes: int = 0  # of memory that is its own


def plan(job: Job, *, external: bool = False) -> Plan:
    """The least that this job needs: read the model and the engine, write its socket and its saved slots."""
    read = [Path(path) for path in _SYSTEM_READ]
    read += [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent.parent, *_import_paths()]
    rules = dict.fromkeys(read, READ)
    rules[Path("/dev/null")] = READ | Access.WRITE_FILE
    gpu_rules = _gpu_rules(runner_environment()) if job.options.gpus else {}
    rules |= gpu_rules
    for path in job.spec.readable_paths:
        rules[path.resolve()] = Access.READ_FILE
    rules[job.socket_path.parent] = Access.MAKE_SOCK | Access.REMOVE_FILE | Access.READ_DIR
    for file in job.options.kv_written:  # made by the server: neither others nor more of them
        rules[file.parent] = READ
        rules[file] = Access.READ_FILE | Access.WRITE_FILE | Access.TRUNCATE
    is_script = False
    if external:
        binary = Path(job.options.llama_server).resolve()
        is_script = _is_script(binary)
        rules |= dict.fromkeys([binary.parent, *map(Path, _SCRIPTS if is_script else _LOADERS)], READ | Access.EXECUTE)
    needs = Needs(execs=external, forks=is_script, driver=bool(gpu_rules))
    return Plan(rules, needs, job.options.kv_max_bytes, _data_limit(job, needs))


def _data_limit(job: Job, needs: Needs) -> int:
    """For RLIMIT_DATA, which counts what is reserved too: stacks, arenas. Drivers reserve without measure."""
    if needs.driver or not job.options.memory_limit_bytes:
        return 0
    return job.options.memory_limit_bytes + _RESERVED_BYTES + (os.cpu_count() or 1) * _RESERVED_BYTES_A_CORE


def _is_script(program: Path) -> bool:
    """Whether a program is run by another one; one that cannot be read is taken for a script."""
    try:
        with program.open("rb") as file:
            return file.read(4) != b"\x7fELF"
    except OSError:
        return True


def _gpu_rules(environ: Mapping[str, str], dev: Path = Path("/dev")) -> dict[Path, Access]:
    """What a driver needs besides, where there is one: its device files, its libraries, names for its threads.

    cuInit fails (error 304) where it cannot write `/proc/self/task/<tid>/comm`, which it opens with O_TRUNC; seen with
    driver 580. What it compiles it keeps in CUDA_CACHE_PATH, if the operator has set that.
    """
    devices = [path for pattern in _GPU_DEVICES for path in dev.glob(pattern)]
    if not devices:
        return {}
    libraries = [Path(folder) for folder in environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    rules = dict.fromkeys([*map(Path, _GPU_READ), *libraries], READ)
    rules |= dict.fromkeys(devices, READ | Access.WRITE_FILE | Access.IOCTL_DEV)
    rules[Path("/proc/self/task")] = READ | Access.WRITE_FILE | Access.TRUNCATE
    if cache := environ.get("CUDA_CACHE_PATH"):
        rules[Path(cache)] = _KEEPS_FILES | Access.MAKE_DIR
    return rules


def _import_paths() -> list[Path]:
    """Where the binding lies, when it is not below the interpreter's prefix."""
    found = importlib.util.find_spec("xllamacpp")
    return [Path(found.origin).parent] if found and found.origin else []


def confine(confinement: Plan) -> SandboxReport:
    """Take away all that the plan does not list. Call with one thread only, before the model is opened."""
    steps: dict[str, Callable[[], None]] = {
        "no_new_privs": _no_new_privs,
        "rlimits": lambda: _limit(confinement),
        "capabilities": _drop_capabilities,
        "landlock": lambda: _restrict_files(confinement),
        "seccomp": lambda: seccomp.install(confinement.needs),
    }
    active, missing = [], {}
    for name, step in steps.items():
        try:
            step()
            active.append(name)
        except (OSError, ValueError, AttributeError) as error:
            missing[name] = str(error)
    if confinement.needs.execs and "seccomp" in active:
        missing["exec"] = "an external engine has to be started"
    return SandboxReport(tuple(active), missing)


def disabled() -> SandboxReport:
    """The report of a runner that was started without confinement."""
    return SandboxReport((), {"sandbox": "switched off"})


def close_inherited(keep: Collection[int]) -> None:
    """Close every descriptor but the standard ones and `keep`: what the server has open is none of a runner's business.

    Call with one thread only.
    """
    for fd in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):  # the one that lists them
                os.close(fd)


def go_first() -> None:
    """Ask the kernel to end this process before others when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; where it cannot, the leash on stdin has to do."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def _no_new_privs() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _restrict_files(confinement: Plan) -> None:
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if threads > 1:
        raise OSError(0, f"{threads} threads run already")
    landlock.restrict(confinement.rules)


def _limit(confinement: Plan) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold conversations
    _lower(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    if sys.platform == "linux":
        _lower(resource.RLIMIT_MSGQUEUE, 0)
    if confinement.max_file_bytes:
        _lower(resource.RLIMIT_FSIZE, confinement.max_file_bytes)
    if confinement.max_data_bytes and sys.platform == "linux":  # private writable memory; mapped weights are neither
        _lower(resource.RLIMIT_DATA, confinement.max_data_bytes)


def _lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (value, value))


def _drop_capabilities() -> None:
    """Root's powers, but for reading; a plain user has none to drop."""
    if os.geteuid() != 0:
        return
    for capability in range(_LAST_CAPABILITY + 1):
        if capability != _CAP_DAC_READ_SEARCH:
            _libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # EINVAL beyond the kernel's last one
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    keep = 1 << _CAP_DAC_READ_SEARCH
    data = (ctypes.c_uint32 * 6)(keep, keep, 0, 0, 0, 0)  # effective, permitted, inheritable; low words, then high
    if _libc().capset(header, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
