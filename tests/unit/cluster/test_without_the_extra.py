"""Without Ray nothing of it is imported, and who asks for a cluster is told what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corral.config import Settings
from corral.settingvalues import SettingsError

_HIDDEN = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "ray" else find(name, *more)
from corral.cli.main import main
sys.argv = ["corral", "serve", "--cluster", "auto"]
sys.exit(main())
"""
_LISTED = """
import sys
import corral.server.serve, corral.server.app, corral.cli.serve
print(sorted(name for name in sys.modules if name == "ray" or name.startswith(("ray.", "corral.cluster"))))
"""


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "CORRAL_HOST": "127.0.0.1:0"}
    return subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_cluster_without_ray_says_what_to_install(tmp_path: Path) -> None:
    done = run(_HIDDEN, tmp_path)
    assert done.returncode == 1
    assert "pip install 'corral[cluster]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_imports_nothing_of_a_cluster(tmp_path: Path) -> None:
    assert run(_LISTED, tmp_path).stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["auto", "local:3", "ray://host:10001", "10.0.0.1:6379", "[::1]:6379"])
def test_addresses_of_clusters(text: str) -> None:
    assert Settings.from_env({"CORRAL_CLUSTER": text}).cluster == text


@pytest.mark.parametrize("text", ["local", "local:0", "local:x", "local:99", "somewhere", "ray://host"])
def test_what_is_no_address_of_a_cluster_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="CORRAL_CLUSTER"):
        Settings.from_env({"CORRAL_CLUSTER": text})


def test_the_current_folder_names_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corral.toml").write_text('cluster = "evil:6379"\n')
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env({"HOME": "/nonexistent"})
    assert settings.cluster == ""
    assert any("cluster ignored" in notice for notice in settings.notices)
