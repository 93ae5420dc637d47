"""Kernels made for this processor: where a pack of them is kept, whether it may be used, and how it is put to use.

The engine's wheel has one CPU backend for all processors. A pack is the same backend of the same ggml, compiled for
this processor by `corral engine build` (corral/kernels/). A runner exchanges the one for the other before its first
call into the engine. A pack is two libraries and a manifest in `<home>/kernels/<engine>-<processor>/`, 0700:

| state in the manifest | meaning                                                                     |
|-----------------------|-----------------------------------------------------------------------------|
| built                 | not proved yet, never used                                                  |
| proved                | the same answers as the built-in kernels in a process of its own: used      |
| refused               | it crashed or answered otherwise, `why` says how: never used, nor built again |

A pack of another owner, with other rights or with a library that does not hash to its entry is not used.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from corral.runner.processor import features, processor_name

BASE, BACKEND = "libggml-base.so.0", "libggml-cpu.so"
MANIFEST = "kernels.json"
PROVED, BUILT, REFUSED = "proved", "built", "refused"
_CPU = b"CPU"  # the backend's name among the engine's
_FORMAT = 5  # of a pack; another number makes all packs anew


@dataclass(frozen=True, slots=True)
class Pack:
    """Kernels for one engine and one processor. digests: library -> sha256 in hex."""

    folder: Path
    features: tuple[str, ...] = ()
    compiler: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    state: str = BUILT
    why: str = ""
    format: int = _FORMAT

    def write(self) -> None:
        """Write the manifest, whole or not at all."""
        part = self.folder / f"{MANIFEST}.part"
        values = {name: value for name, value in asdict(self).items() if name != "folder"}
        part.write_text(json.dumps(values, indent=1))
        part.replace(self.folder / MANIFEST)

    def marked(self, state: str, why: str = "") -> Pack:
        """The same pack with another verdict."""
        return replace(self, state=state, why=why)


class KernelsUnusable(Exception):
    """A pack that must not be loaded; the text says why."""


def pack_folder(home: Path) -> Path:
    """Where the pack for this engine and this processor is, or would be."""
    return home / "kernels" / f"{engine_version()}-{processor_name(features())}"


def engine_version() -> str:
    """The engine wheel's version; empty without one."""
    from importlib.metadata import PackageNotFoundError, version  # long to import, and a runner never asks

    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return ""


def read_pack(folder: Path) -> Pack | None:
    """The pack of a folder as its manifest says; None when there is none that can be read."""
    try:
        values = json.loads((folder / MANIFEST).read_text())
        known = {item.name for item in fields(Pack)} - {"folder"}
        pack = Pack(folder, **{name: value for name, value in values.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return pack if pack.format == _FORMAT else None


def check_pack(pack: Pack) -> None:
    """Raise KernelsUnusable unless the pack is proved, ours alone, and what its manifest says."""
    if pack.state != PROVED:
        raise KernelsUnusable(pack.why or f"the kernels are {pack.state}, not proved")
    for path in (pack.folder, pack.folder / MANIFEST, *(pack.folder / name for name in (BASE, BACKEND))):
        try:
            status = path.lstat()
        except OSError as error:
            raise KernelsUnusable(f"{path.name}: {error.strerror}") from error
        if stat.S_ISLNK(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise KernelsUnusable(f"{path.name} is not ours alone")
    for name in (BASE, BACKEND):
        if digest_of(pack.folder / name) != pack.digests.get(name):
            raise KernelsUnusable(f"{name} is not the one that was proved")


def usable_pack(home: Path) -> Pack | None:
    """The pack for this engine and processor, if it may be used now."""
    pack = read_pack(pack_folder(home))
    if pack is None:
        return None
    try:
        check_pack(pack)
    except KernelsUnusable:
        return None
    return pack


def digest_of(path: Path) -> str:
    """A file's sha256 in hex; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def exchange(binding: str, folder: Path) -> None:
    """Put a pack's CPU backend in the place of the engine's own; before any other call into the engine.

    `binding`: the engine's library file. Raises KernelsUnusable; the engine's own backend is in place then.
    """
    engine = _typed(ctypes.CDLL(binding))
    base = ctypes.CDLL(str(folder / BASE))
    base.ggml_version.restype = ctypes.c_char_p
    if base.ggml_version() != engine.ggml_version():
        raise KernelsUnusable(f"made for ggml {base.ggml_version().decode()}, the engine has another")
    count = engine.ggml_backend_reg_count()
    own = [engine.ggml_backend_reg_get(index) for index in range(count)]
    built_in = [backend for backend in own if engine.ggml_backend_reg_name(backend) == _CPU]
    if not engine.ggml_backend_load(str(folder / BACKEND).encode()):
        raise KernelsUnusable("the engine refuses the library")
    for backend in built_in:
        engine.ggml_backend_unload(backend)


def _typed(engine: Any) -> Any:
    """The five functions with their C types; raises KernelsUnusable where the binding hides them."""
    signatures = {
        "ggml_version": (ctypes.c_char_p, []),
        "ggml_backend_reg_count": (ctypes.c_size_t, []),
        "ggml_backend_reg_get": (ctypes.c_void_p, [ctypes.c_size_t]),
        "ggml_backend_reg_name": (ctypes.c_char_p, [ctypes.c_void_p]),
        "ggml_backend_load": (ctypes.c_void_p, [ctypes.c_char_p]),
        "ggml_backend_unload": (None, [ctypes.c_void_p]),
    }
    try:
        for name, (result, arguments) in signatures.items():
            function = getattr(engine, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise KernelsUnusable(f"this build of the engine hides {error}") from error
    return engine
