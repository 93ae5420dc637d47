"""Other projects' clients against a real server: each script in peers/ runs in an environment of its own.

`scripts/peers-setup` makes the environments; nothing of them is in .venv.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.ggufs import tiny_llama
from tests.fakes.made import made
from tests.fakes.visions import tiny_projector

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).parent / "peers"
PYTHON = ROOT / "build" / "peers-venv" / "bin" / "python"
NODE_MODULES = ROOT / "build" / "peers-node" / "node_modules"
# The earlier turns make even a 135M model call; the stop keeps it from calling again and again.
TEMPLATE = """\
{{- if .Tools }}<|im_start|>system
Functions:
{{ range .Tools }}{{ .Function.Name }}
{{ end }}Answer every question with a call, like this:<|im_end|>
<|im_start|>user
What is the weather in Rome?<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "get_weather", "arguments": {"city": "Rome"}}
</tool_call><|im_end|>
<|im_start|>user
What is the weather in Berlin?<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "get_weather", "arguments": {"city": "Berlin"}}
</tool_call><|im_end|>
{{ end }}
{{- range .Messages }}<|im_start|>{{ if eq .Role "tool" }}user{{ else }}{{ .Role }}{{ end }}
{{ .Content }}
{{- if .ToolCalls }}
{{- range .ToolCalls }}<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}
{{- end }}<|im_end|>
{{ end }}<|im_start|>assistant
"""


@pytest.fixture(scope="module", autouse=True)
def environments() -> None:
    """Both environments, made or renewed."""
    done = subprocess.run([ROOT / "scripts" / "peers-setup"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"the peers could not be installed: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="module")
def peers_server(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The session's server with a model that calls tools and a tiny one that sees."""
    parameters = {"temperature": 0, "stop": ["<|im_end|>", "</tool_call>"]}
    body = {"model": "smollm2-tools", "from": "smollm2:135m", "template": TEMPLATE, "parameters": parameters}
    assert server.post("/api/create", body) == {"status": "success"}
    folder = tmp_path_factory.mktemp("tiny-llava")
    files = {
        "llava.gguf": tiny_llama(folder / "llava.gguf", context_length=8192),
        "mmproj.gguf": tiny_projector(folder / "mmproj.gguf"),
    }
    with made(server, "tiny-llava", files):
        yield server


@pytest.mark.parametrize("script", sorted(path.name for path in PEERS.glob("with_*.py")))
def test_a_python_peer_works(peers_server: ServerProcess, tmp_path: Path, script: str) -> None:
    _run([PYTHON, PEERS / script], peers_server, tmp_path)


@pytest.mark.parametrize("script", sorted(path.name for path in PEERS.glob("with_*.mjs")))
def test_an_npm_peer_works(peers_server: ServerProcess, tmp_path: Path, script: str) -> None:
    node = shutil.which("node")
    if node is None or not NODE_MODULES.exists():
        pytest.skip("node or npm is missing")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    copied = shutil.copy(PEERS / script, tmp_path)
    _run([node, copied], peers_server, tmp_path)


def _run(command: Sequence[str | Path], server: ServerProcess, home: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PEER_URL": server.url,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it asks GitHub for prices
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
