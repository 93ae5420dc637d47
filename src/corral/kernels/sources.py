"""The engine's sources: its sdist, through the user's own pip, checked against a digest that is pinned here."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from corral.errors import KernelBuildFailed

ENGINE = "xllamacpp"
SDISTS = {  # of the versions that requirements.lock may hold
    "2026.10.11549": "c17ee1163006f70726abb9f72137830818f3d8cb60bfc34cb232d08428eaa22b",
}
_WANTED = "/thirdparty/llama.cpp/ggml/"
_MAX_BYTES = 512 * 2**20  # unpacked

Run = Callable[[Sequence[str], Path], None]  # a command in a folder; raises KernelBuildFailed


def fetch_sources(engine_version: str, folder: Path, run: Run) -> Path:
    """The ggml folder of the engine's sources, below `folder`. Raises KernelBuildFailed."""
    return _unpack(fetch_archive(engine_version, folder, run), folder / "sources")


def fetch_archive(engine_version: str, folder: Path, run: Run) -> Path:
    """The engine's sdist, in `folder`, as its digest wants it. Raises KernelBuildFailed."""
    digest = SDISTS.get(engine_version)
    if digest is None:
        raise KernelBuildFailed(f"no digest is known of the sources of {ENGINE} {engine_version}")
    wanted = folder / "sources.txt"
    wanted.write_text(f"{ENGINE}=={engine_version} --hash=sha256:{digest}\n")
    pip = (sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input")
    run((*pip, "--no-deps", "--no-binary", ENGINE, "--require-hashes", "-r", str(wanted), "-d", str(folder)), folder)
    archives = sorted(folder.glob(f"{ENGINE}-*.tar.gz"))
    if len(archives) != 1:
        raise KernelBuildFailed("pip brought no source archive")
    return archives[0]


def fetch_tools(names: Sequence[str], folder: Path, run: Run) -> Path:
    """Build tools from their wheels, importable and runnable below the folder that is returned."""
    tools = folder / "tools"
    pip = (sys.executable, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    run((*pip, "--only-binary", ":all:", "--target", str(tools), *names), folder)
    return tools


def _unpack(archive: Path, target: Path) -> Path:
    """Only ggml's own folder is taken, as plain files."""
    total = 0
    with tarfile.open(archive) as opened:
        for member in opened:
            if _WANTED not in f"/{member.name}" or not (member.isreg() or member.isdir()):
                continue
            total += member.size
            if total > _MAX_BYTES:
                raise KernelBuildFailed(f"the sources unpack to more than {_MAX_BYTES} bytes")
            opened.extract(member, target, filter="data")
    found = sorted(target.glob(f"*{_WANTED.rstrip('/')}"))
    if len(found) != 1:
        raise KernelBuildFailed("the archive holds no ggml")
    return found[0]
