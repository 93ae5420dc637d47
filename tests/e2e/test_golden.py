"""What the real Ollama answered, replayed against a real server (../shared/golden).

Ollama rewrites an uploaded GGUF and converts safetensors its own way; Corral keeps uploads byte for byte. So the
digests of the base models' weights and manifests are replaced in the cases by those of this store; all else must be
equal, but for DEPARTURES.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess, create_golden_models, start_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

# What Ollama's store had: model -> (digest of its weights, digest of its manifest).
OLLAMA_DIGESTS = {
    "smollm2:135m": (
        "941f309b54caaad6747569ba43712bcde44a2be3bae16c3282ff499c37c54af5",
        "fd5f44c0b5aff6453726119fc560d73a8a995a55b4a49804bc24b1969ecf1794",
    ),
    "all-minilm:latest": (
        "dc4387e2242164a128615d99e9a0853f3765a6484534cff4c65c381a69234e60",
        "3916e706937ab68937981d4bebf584c3ea8e2e9ab78cd6306bfa9741c77ddb9e",
    ),
}
DEPARTURES = {
    # A response cut by its length says so, and has the usage field that OpenAI's SDK demands.
    "cut response": re.compile(
        r"^(body\.status: want 'completed', got 'incomplete'$"
        r"|body\.incomplete_details: want null, got \{\"reason\": \"max_output_tokens\"\}$"
        r"|body\.usage\.input_tokens_details: unexpected keys \['cache_write_tokens'\]$)"
    ),
    # The item says that it was cut, too.
    "cut item": re.compile(r"^body\.output\[0\]\.status: want 'completed', got 'incomplete'$"),
    "cut response stream": re.compile(r"^events: want \[\"response\.created\""),
    # `developer` is the system's turn; Ollama writes the unknown role into the prompt.
    "developer": re.compile(r"^body\.usage\.prompt_tokens: want 19, got 18$"),
    # What stays of a conversation begins with a user's turn; Ollama keeps the answer to a question that is gone.
    "cut at user turns": re.compile(
        r"^body\._debug_info\.rendered_template: want '<\|im_start\|>system\\nkeep me<\|im_end\|>\\n"
        r"<\|im_start\|>assistant"
    ),
    # Arguments come as they are written; Ollama sends whole calls.
    "arguments as they are written": re.compile(
        r"^events: want \[\"choices\+created\+id\+model\+object\+system_fingerprint:content\+role\+tool_calls\""
    ),
    # Ollama always says 0.
    "cached tokens": re.compile(r"\.cached_tokens: want 0, got \d+$"),
    # Anthropic's clients add up what was read and what was cached; Ollama has no field for the cache.
    "Anthropic's cache": re.compile(
        r"^body\.usage: unexpected keys \['cache_creation_input_tokens', 'cache_read_input_tokens'\]$"
        r"|^body\.usage\.input_tokens: want \d+, got \d+$"
    ),
    # The case wants an error text in the answer to HEAD, which has no body.
    "HEAD has no body": re.compile(r"^error: want 'an error that says what was wrong', got \{\}$"),
}


def test_every_golden_answer_is_given(tmp_path: Path, models_dir: Path, shared: Path) -> None:
    server = start_server(tmp_path, env={"OLLAMA_NO_CLOUD": "1"})
    try:
        create_golden_models(server, models_dir)
        cases = tmp_path / "cases.jsonl"
        cases.write_text(with_own_digests((shared / "golden" / "cases.jsonl").read_text(), server))
        command = [sys.executable, str(shared / "golden" / "replay.py"), "--base-url", server.url, "-v"]
        command += ["--cases", str(cases), "--store", str(server.models)]
        replay = subprocess.run(command, capture_output=True, text=True, timeout=1100, check=False)
    finally:
        server.stop()
    print("\n".join(line for line in replay.stdout.splitlines() if re.match(r"\w[\w-]* +\d+ of \d+$|golden:", line)))
    assert re.search(r"^golden: \d+ of 741 steps pass$", replay.stdout, re.MULTILINE), replay.stdout + replay.stderr
    lost = [(step, diff) for step, diffs in red_steps(replay.stdout) for diff in diffs if not is_departure(diff)]
    assert lost == [], "\n".join(f"{step}: {diff}" for step, diff in lost)


def with_own_digests(cases: str, server: ServerProcess) -> str:
    """The cases with Ollama's digests of the base models replaced by this store's."""
    tags = {model["name"]: model["digest"] for model in server.request("GET", "/api/tags")["models"]}
    for name, (weights, manifest) in OLLAMA_DIGESTS.items():
        model, _, tag = name.partition(":")
        path = server.models / "manifests" / "registry.ollama.ai" / "library" / model / tag
        layers = json.loads(path.read_text())["layers"]
        own = next(layer["digest"] for layer in layers if layer["mediaType"].endswith("image.model"))
        cases = cases.replace(weights, own.removeprefix("sha256:")).replace(manifest, tags[name])
    return cases


def red_steps(output: str) -> list[tuple[str, list[str]]]:
    """(step, its differences) of every step that does not pass."""
    blocks = re.split(r"^✗ ", output, flags=re.MULTILINE)[1:]
    return [(block.split()[0], re.findall(r"^    (.+)$", block, re.MULTILINE)) for block in blocks]


def is_departure(diff: str) -> bool:
    return any(pattern.search(diff) for pattern in DEPARTURES.values())


def test_a_difference_that_is_no_departure_is_seen() -> None:
    output = "✗ a/b#0  GET /\n    body.status: want 'completed', got 'incomplete'\n    body.model: want 'x', got 'y'\n"
    ((step, diffs),) = red_steps(output)
    assert step == "a/b#0"
    assert [is_departure(diff) for diff in diffs] == [True, False]
