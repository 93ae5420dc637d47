"""The guide's programs, run as they stand against a real server; only the base URL is replaced, {...} filled in."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import ServerProcess, free_port
from tests.fakes.ggufs import make_gguf, tiny_llama
from tests.fakes.guide import find_block
from tests.fakes.made import made
from tests.fakes.visions import picture, tiny_projector

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

GUIDE_URL = "http://localhost:11434"
RULE = "-" * 50


def program(section: str, url: str, kind: str = "python") -> str:
    """A section's program with another base URL."""
    text = find_block(section, kind)
    assert GUIDE_URL in text
    return text.replace(GUIDE_URL, url)


def run(text: str, folder: Path, *, typed: str = "", status: int = 0) -> str:
    """Run a Python program in `folder`; its output."""
    (folder / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "NO_PROXY": "*"},
        input=typed,
        capture_output=True,
        text=True,
        timeout=350,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, ""), done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_streaming_example(guide_server: ServerProcess, tmp_path: Path) -> None:
    output = run(program("Python Streaming Implementation", guide_server.url), tmp_path)
    generated, _, chatted = output.partition("=== Streaming Chat ===")
    text, tokens, seconds = re.fullmatch(
        r"=== Streaming Generation ===\n(.*)\n\nTotal tokens: (\d+)\nDuration: (\d+\.\d\d)s\n\n", generated, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    assert text.strip()
    assert 1 < int(tokens) <= 48
    assert float(seconds) > 0
    assert chatted.strip()


def test_javascript_streaming(guide_server: ServerProcess, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    path = tmp_path / "streaming.js"
    path.write_text(program("JavaScript/Node.js Streaming", guide_server.url, "javascript"))
    done = subprocess.run([node, str(path)], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    generated, _, chatted = done.stdout.partition("=== Streaming Chat ===")
    tokens = re.search(r"Tokens generated: (\d+)\nDuration: \d+\.\d\ds\n", generated)
    assert tokens is not None, done.stdout
    assert 1 < int(tokens[1]) <= 48
    assert len(generated.partition("===\n\n")[2].partition("Tokens generated")[0].strip()) > 10
    assert len(chatted.strip()) > 10


def test_embeddings_example_ranks_the_right_document_first(guide_server: ServerProcess, tmp_path: Path) -> None:
    output = run(program("Batch Embeddings in Python", guide_server.url), tmp_path)
    rows = re.findall(r"^\[(-?\d\.\d{4})\] (.*)$", output.partition(RULE)[2], re.MULTILINE)
    assert len(rows) == 5
    scores = [float(score) for score, _ in rows]
    assert scores == sorted(scores, reverse=True)
    assert {text.split()[0] for _, text in rows[:2]} == {"Docker", "Kubernetes"}
    assert scores[1] > scores[2] + 0.1


def test_model_management(guide_server: ServerProcess, tmp_path: Path) -> None:
    more = """
    manager.copy_model("devops-helper", "devops-two")
    print("  Shown:", manager.get_model_info("devops-two")["system"])
    manager.delete_model("devops-two")
    left = [model["name"] for model in manager.list_models()]
    print("  Left:", "devops-two:latest" in left, "devops-helper:latest" in left)
    print("  Running:", isinstance(manager.list_running(), list))
"""
    output = run(program("Python Model Management", guide_server.url) + more, tmp_path)
    assert re.search(r"^  llama3\.2:latest: 0\.\d\d GB$", output, re.MULTILINE)
    assert "  Created: devops-helper\n" in output
    assert "  Shown: You are a helpful assistant specialized in DevOps and cloud infrastructure.\n" in output
    assert output.endswith("  Left: False True\n  Running: True\n")
    shown = guide_server.post("/api/show", {"model": "devops-helper"})
    assert re.search(r"^temperature +0\.5$", shown["parameters"], re.MULTILINE)
    assert re.search(r"^num_ctx +4096$", shown["parameters"], re.MULTILINE)
    guide_server.request("DELETE", "/api/delete", {"name": "devops-helper"})


def test_openai_compatible(guide_server: ServerProcess, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    output = run(program("Using OpenAI Python Client", guide_server.url), tmp_path)
    parts = re.split(r"=== [\w ]+ ===\n", output)
    assert len(parts) == 4
    assert len(parts[1].strip()) > 5
    assert len(parts[2].strip()) > 5
    assert parts[3] == "Generated 2 embeddings\nDimension: 384\n"


@pytest.fixture
def llava(guide_server: ServerProcess, tmp_path: Path) -> Iterator[ServerProcess]:
    files = {
        "llava.gguf": tiny_llama(tmp_path / "llava.gguf", context_length=8192),
        "mmproj.gguf": tiny_projector(tmp_path / "mmproj.gguf"),
    }
    with made(guide_server, "llava", files, parameters={"num_predict": 12, "temperature": 0, "stop": ["<none>"]}):
        yield guide_server


def test_vision_example(llava: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "screenshot.png").write_bytes(picture("PNG", color=(200, 30, 30)))
    output = run(program("Sending Images with Requests", llava.url), tmp_path)
    analysis, _, chat = output.partition("\nChat Response:\n")
    assert analysis.startswith("Image Analysis:\n")
    assert len(analysis) > len("Image Analysis:\n\n")
    assert len(chat) > 1


def test_vision_example_without_an_image_asks_nothing(guide_server: ServerProcess, tmp_path: Path) -> None:
    assert run(program("Sending Images with Requests", guide_server.url), tmp_path) == ""


def test_chatbot_app(guide_server: ServerProcess, tmp_path: Path) -> None:
    typed = [
        "", "My name is Ada.", "/save chat.json", "/clear", "/save empty.json", "/load chat.json", "What is my name?",
        "/model absent", "Hello?", "/model llama3.2:3b", "Hello again.", "/save all.json", "/nonsense", "/quit",
    ]  # fmt: skip
    output = run(program("Building a Complete Application", guide_server.url), tmp_path, typed="\n".join(typed) + "\n")
    assert output.startswith(
        f"Ollama Chatbot\nCommands: /clear, /model <name>, /save <file>, /load <file>, /quit\n{RULE}\n"
    )
    assert output.endswith("Goodbye!\n")
    for said in (
        "Conversation cleared.",
        "History saved to: chat.json",
        "Switched to model: absent",
        "Unknown command",
    ):
        assert said in output
    assert output.count("Error: 404 Client Error: Not Found for url:") == 1
    roles = [[message["role"] for message in json.loads((tmp_path / name).read_text())] for name in CHATS]
    assert roles[0] == ["system", "user", "assistant"]
    assert roles[1] == ["system"]
    assert roles[2] == ["system", "user", "assistant", "user", "assistant", "user", "user", "assistant"]
    answers = [m["content"] for m in json.loads((tmp_path / "all.json").read_text()) if m["role"] == "assistant"]
    assert all(answer.strip() and answer in output for answer in answers)


CHATS = ("chat.json", "empty.json", "all.json")


def test_error_handling(guide_server: ServerProcess, tmp_path: Path) -> None:
    output = run(program("Handling API Errors", guide_server.url), tmp_path)
    assert output.startswith("Server is healthy\nModel 'llama3.2' is available\n\nGenerated response: ")
    assert len(output.rpartition("Generated response:")[2].strip()) > 1


def test_error_handling_names_a_missing_model(guide_server: ServerProcess, tmp_path: Path) -> None:
    text = program("Handling API Errors", guide_server.url).replace('model = "llama3.2"', 'model = "absent"')
    output = run(text, tmp_path)
    assert "WARNING: Model 'absent' not found locally\n" in output
    assert "API Error: Model 'absent' not found. Run 'ollama pull absent' to download it.\n" in output


def test_error_handling_finds_a_server_error_and_its_text(guide_server: ServerProcess, tmp_path: Path) -> None:
    broken = make_gguf(tmp_path / "broken.gguf", "llama", {"llama.context_length": 64}, {"w": (2, 2)})
    with made(guide_server, "broken", {"broken.gguf": broken}):
        text = program("Handling API Errors", guide_server.url).replace('model = "llama3.2"', 'model = "broken"')
        output = run(text, tmp_path)
    assert "Model 'broken' is available\n" in output
    error = re.search(r"^API Error: Unexpected error: Server error: (.+)$", output, re.MULTILINE)
    assert error is not None, output
    assert "{" not in error[1]
    assert str(guide_server.models) not in error[1]


def test_error_handling_says_that_no_server_is_there(tmp_path: Path, shared: Path) -> None:
    text = program("Handling API Errors", f"http://127.0.0.1:{free_port()}")
    assert run(text, tmp_path, status=1) == "ERROR: Ollama server is not running\nStart it with: ollama serve\n"


def test_one_connection_serves_several_requests(guide_server: ServerProcess, tmp_path: Path) -> None:
    text = program("Connection Pooling", guide_server.url)
    bodies = [
        {"model": "llama3.2", "prompt": "Hi", "stream": False},
        {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}], "stream": False},
    ]
    for body in bodies:
        text = text.replace("json={...}", f"json={body!r}", 1)
    text += "print(response1.status_code, response2.status_code)\n"
    text += "print(sum(p.num_connections for p in map(session.get_adapter('http://').poolmanager.pools.__getitem__, "
    text += "session.get_adapter('http://').poolmanager.pools.keys())))\n"
    assert run(text, tmp_path) == "200 200\n1\n"


def test_prompts_may_be_sent_in_parallel(guide_server: ServerProcess, tmp_path: Path) -> None:
    output = run(program("Batch Processing", guide_server.url) + "print(results)\n", tmp_path)
    results = ast.literal_eval(output)
    assert len(results) == 3
    assert all(text.strip() for text in results)


def test_a_model_is_unloaded_by_keep_alive_0(guide_server: ServerProcess, tmp_path: Path) -> None:
    guide_server.post("/api/generate", {"model": "llama3.2"})
    assert guide_server.request("GET", "/api/ps")["models"]
    more = """
import time
unload_model("llama3.2")
deadline = time.monotonic() + 20
while requests.get("URL/api/ps").json()["models"] and time.monotonic() < deadline:
    time.sleep(0.05)
print(requests.get("URL/api/ps").json())
"""
    for model in guide_server.request("GET", "/api/ps")["models"]:
        if not model["name"].startswith("llama3.2"):
            guide_server.post("/api/generate", {"model": model["name"], "keep_alive": 0})
    text = program("Memory Management", guide_server.url) + more.replace("URL", guide_server.url)
    assert run(text, tmp_path) == "{'models': []}\n"
