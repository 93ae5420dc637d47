"""Compiling the engine's CPU backend for this processor: one target of the engine's own sources, about a minute.

Steps: sources (sources.py), corrected (corrections.py), CMake with the options of this processor (runner/processor.py),
the two libraries into the pack's folder, and the proof (proof.py). Whatever fails leaves nothing usable behind.
Blocking; niced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.errors import KernelBuildFailed
from corral.kernels.corrections import correct
from corral.kernels.proof import prove
from corral.kernels.sources import fetch_sources, fetch_tools
from corral.runner.kernels import BACKEND, BASE, BUILT, Pack, digest_of, engine_version, pack_folder
from corral.runner.processor import build_options, features

COMPILERS = ("c++", "g++", "clang++")
ZIG = "ziglang==0.16.0"
ZIG_SIZE = "about 100 MB"
_TOOLS = ("cmake==4.1.2", "ninja==1.13.0")
_LEAST_CMAKE = (3, 18)
_DEADLINE_S = 3600
_LAST_LINES = 5
_PROJECT = """\
cmake_minimum_required(VERSION 3.18)
project(corral_kernels C CXX ASM)
add_subdirectory("{ggml}" ggml)
set_source_files_properties("{ggml}/src/ggml-backend.cpp" TARGET_DIRECTORY ggml-base
                            PROPERTIES COMPILE_OPTIONS "-include;{clear}")
set_source_files_properties("{ggml}/src/ggml-cpu/ggml-cpu.c" TARGET_DIRECTORY ggml-cpu
                            PROPERTIES COMPILE_OPTIONS "-include;{barrier}")
set_source_files_properties("{ggml}/src/ggml-cpu/ops.cpp" TARGET_DIRECTORY ggml-cpu
                            PROPERTIES COMPILE_OPTIONS "-include;{attention}")
target_include_directories(ggml-cpu PRIVATE "{here}")
"""
CLEAR, BARRIER, ATTENTION = (Path(__file__).with_name(f"{name}.h") for name in ("clear", "barrier", "attention"))
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
    "BUILD_SHARED_LIBS": "ON",
    "GGML_BACKEND_DL": "ON",
    "GGML_NATIVE": "OFF",
    "GGML_LLAMAFILE": "ON",
    "GGML_CCACHE": "OFF",
    "GGML_ALL_WARNINGS": "OFF",  # chosen by the C++ compiler, for a C compiler that may be another one
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Compiler:
    """What compiles. openmp: whether CMake finds its OpenMP. environment: variables that lead CMake to it."""

    name: str
    openmp: bool = True
    environment: tuple[tuple[str, str], ...] = ()


def find_compiler() -> Compiler | None:
    """The C++ compiler of this machine."""
    found = next((path for name in COMPILERS if (path := shutil.which(name))), "")
    return Compiler(found) if found else None


def build(home: Path, say: Say, *, compiler: Compiler | None = None, use_zig: bool = False) -> Pack:
    """Make and prove a pack; returns it, proved or refused. Raises KernelBuildFailed when it cannot be made."""
    folder = pack_folder(home)
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in folder.parent.glob("build-*"):  # of a build that was killed
        if time.time() - left.stat().st_mtime > 2 * _DEADLINE_S:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder.parent) as place:
        work = Path(place)
        if use_zig:
            say(f"fetching a compiler ({ZIG_SIZE})")
            compiler = _zig(work)
        compiler = compiler or find_compiler()
        if compiler is None:
            raise KernelBuildFailed("there is no C++ compiler here; `corral engine build --zig` fetches one")
        say("fetching the engine's sources")
        ggml = fetch_sources(engine_version(), work, _run)
        correct(ggml)
        say(f"compiling with {compiler.name}")
        made = _compile(work, ggml, compiler)
        pack = _assemble(work / "pack", made, compiler)
        say("proving")
        verdict = prove(pack)
        pack = pack.marked(*verdict)
        pack.write()
        return _install(pack, folder)


def _zig(work: Path) -> Compiler:
    """Zig's C++, whose code reads K-quants 1.3 times as fast as gcc 12's.

    Zig has no OpenMP, without which ggml's threads bear a busy host badly: where there is a gcc, it compiles what
    starts them.
    """
    tools = fetch_tools([ZIG], work, _run)
    for name, command in (("zig-cc", "cc"), ("zig-c++", "c++")):
        script = work / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m ziglang {command} "$@"\n')
        script.chmod(0o755)
    variables = (("CC", str(work / "zig-cc")), ("CXX", str(work / "zig-c++")), ("PYTHONPATH", str(tools)))
    c_compiler = shutil.which("gcc") or ""
    openmp = _openmp_of(c_compiler, work) if c_compiler else ""
    if not openmp:
        return Compiler("zig", openmp=False, environment=variables)
    # the one file of ggml's that starts threads is C
    apart = (("CC", c_compiler), ("CFLAGS", "-fopenmp -DGGML_USE_OPENMP"), ("LDFLAGS", openmp))
    return Compiler(f"zig and {c_compiler}", openmp=False, environment=(*variables, *apart))


def _openmp_of(gcc: str, work: Path) -> str:
    """The path of its OpenMP library, "" = none: zig links what gcc compiled."""
    program = work / "openmp.c"
    program.write_text("#include <omp.h>\nint main(void) { return omp_get_num_threads() - 1; }\n")
    with contextlib.suppress(KernelBuildFailed, OSError, subprocess.SubprocessError):
        _run((gcc, "-fopenmp", "-o", str(work / "openmp"), str(program)), work)
        words = (gcc, "-print-file-name=libgomp.so")
        found = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
        return found if Path(found).is_absolute() else ""
    return ""


def _compile(work: Path, ggml: Path, compiler: Compiler) -> tuple[Path, Path]:
    project, target = work / "project", work / "out"
    project.mkdir()
    (project / "CMakeLists.txt").write_text(
        _PROJECT.format(ggml=ggml, clear=CLEAR, barrier=BARRIER, attention=ATTENTION, here=ATTENTION.parent)
    )
    environment = dict(compiler.environment)
    cmake, generator = _cmake(work, environment)
    options = {**_OPTIONS, "GGML_OPENMP": "ON" if compiler.openmp else "OFF", **build_options(features())}
    words = [f"-D{name}={value}" for name, value in options.items()]
    _run((*cmake, "-S", str(project), "-B", str(target), *generator, *words), work, environment)
    jobs = str(max(1, (os.cpu_count() or 2) // 2))
    _run((*cmake, "--build", str(target), "--target", "ggml-cpu", "-j", jobs), work, environment)
    return _only(target, BASE), _only(target, BACKEND)


def _cmake(work: Path, environment: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """CMake as a command, and its generator: this machine's where it is new enough, else from wheels."""
    found = shutil.which("cmake")
    if found and _cmake_version(found) >= _LEAST_CMAKE and (shutil.which("ninja") or shutil.which("make")):
        return (found,), (("-G", "Ninja") if shutil.which("ninja") else ())
    tools = fetch_tools(_TOOLS, work, _run)
    environment["PYTHONPATH"] = str(tools)
    environment["PATH"] = f"{tools / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return (str(tools / "bin" / "cmake"),), ("-G", "Ninja")


def _cmake_version(cmake: str) -> tuple[int, ...]:
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError, IndexError):
        text = subprocess.run([cmake, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
        return tuple(int(part) for part in text.split()[2].split("-")[0].split(".")[:2])
    return (0,)


def _only(folder: Path, name: str) -> Path:
    found = [path for path in folder.rglob(name) if path.is_file()]
    if not found:
        raise KernelBuildFailed(f"the build made no {name}")
    return found[0]


def _assemble(folder: Path, made: tuple[Path, Path], compiler: Compiler) -> Pack:
    folder.mkdir(mode=0o700)
    for source, name in zip(made, (BASE, BACKEND), strict=True):
        shutil.copyfile(source, folder / name)
        (folder / name).chmod(0o600)
    digests = {name: digest_of(folder / name) for name in (BASE, BACKEND)}
    pack = Pack(folder, features(), compiler.name, digests, BUILT)
    pack.write()
    (folder / "kernels.json").chmod(0o600)
    return pack


def _install(pack: Pack, folder: Path) -> Pack:
    """Give a pack its place; the one that was there is gone."""
    if folder.exists():
        old = pack.folder.with_name("old")
        folder.rename(old)
    pack.folder.rename(folder)
    return Pack(folder, pack.features, pack.compiler, pack.digests, pack.state, pack.why)


def _run(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    """A niced child of our process group; it is gone when this returns, and with the group in any case."""
    with _started(command, folder, environment) as child:
        try:
            output, _ = child.communicate(timeout=_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise KernelBuildFailed(f"{Path(command[0]).name} took longer than {_DEADLINE_S} s") from None
        if child.returncode:
            lines = output.decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
            raise KernelBuildFailed(f"{Path(command[0]).name} failed: {' | '.join(lines)}")


@contextlib.contextmanager
def _started(
    command: Sequence[str], folder: Path, environment: dict[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    variables = [f"{name}={value}" for name, value in (environment or {}).items()]
    child = subprocess.Popen(
        ["nice", "-n", "19", "env", f"TMPDIR={folder}", *variables, *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
