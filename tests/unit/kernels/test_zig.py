"""What zig compiles, and what a gcc beside it does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from corral.kernels import build


@pytest.fixture(autouse=True)
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "fetch_tools", lambda _names, work, _run: work / "tools")


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc is here")
def test_a_gcc_compiles_what_starts_threads(tmp_path: Path) -> None:
    compiler = build._zig(tmp_path)
    variables = dict(compiler.environment)
    assert variables["CC"] == shutil.which("gcc")
    assert variables["CXX"] == str(tmp_path / "zig-c++")
    assert Path(variables["LDFLAGS"]).name.startswith("libgomp.so")
    assert compiler.name == f"zig and {variables['CC']}"


@pytest.mark.parametrize("gcc", ["", "/bin/false"], ids=["no gcc", "one that compiles nothing"])
def test_zig_alone_compiles_all_and_without_openmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gcc: str) -> None:
    monkeypatch.setattr("corral.kernels.build.shutil.which", lambda _: gcc or None)
    compiler = build._zig(tmp_path)
    assert (compiler.name, compiler.openmp) == ("zig", False)
    assert "CFLAGS" not in dict(compiler.environment)
    assert (tmp_path / "zig-c++").read_text().endswith(' -m ziglang c++ "$@"\n')
