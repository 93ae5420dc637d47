"""The agents that are run against a real server: how each is pointed at it and started, and the call it makes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = Path(__file__).resolve().parents[3] / "build" / "agents"
SHELL = "echo seen > made.txt"
TASK = "make the file"
SAID = "All done here."


@dataclass(frozen=True)
class Launch:
    """A command line, and what its environment has besides PATH and HOME."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Program:
    """One agent.

    package: as npm or PyPI names it, "" of what the machine brings; api: the route that its turns take; call: of a tool
    of its own, which makes `made.txt`, empty where it has no tools; launch: from (server's URL, model, home, working
    folder); last: the call that it waits for to end its loop, None where a text ends it; streamed: which of its
    rounds are; loop: what the table says of it; offer: the protocol that its first request offers to change to.
    """

    name: str
    folder: str
    package: str
    api: str
    call: Mapping[str, Any]
    launch: Callable[[str, str, Path, Path], Launch]
    last: Mapping[str, Any] | None = None
    streamed: tuple[bool, ...] = (True, True)
    loop: str = "yes"
    offer: str = ""

    @property
    def is_here(self) -> bool:
        """Whether what the machine has to bring is there; the rest is installed."""
        return bool(self.package) or shutil.which("javac") is not None

    @property
    def version(self) -> str:
        """As it is pinned; of the JDK, the machine's."""
        return self.pin or subprocess.run(["java", "--version"], capture_output=True, text=True).stdout.split()[1]

    @property
    def pin(self) -> str | None:
        """The version that is pinned, if one is."""
        if not self.package:
            return None
        wheels = HERE / self.folder / "requirements.lock"
        if wheels.exists():
            return dict(line.split("==") for line in wheels.read_text().split())[self.package]
        pinned = json.loads((HERE / self.folder / "package.json").read_text())["dependencies"]
        return str(pinned[self.package])


def _bin(folder: str, name: str) -> str:
    return str(BUILD / folder / "node_modules" / ".bin" / name)


def _claude(url: str, model: str, home: Path, work: Path) -> Launch:
    environment = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": "any",
        "ANTHROPIC_MODEL": model,
        "ANTHROPIC_SMALL_FAST_MODEL": model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",
    }
    flags = ("--output-format", "json", "--dangerously-skip-permissions")
    return Launch((_bin("claude-code", "claude"), "-p", TASK, *flags), environment)


def _codex(url: str, model: str, home: Path, work: Path) -> Launch:
    folder = home / ".codex"
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(
        f'model = "{model}"\nmodel_provider = "corral"\n'
        f'[model_providers.corral]\nname = "corral"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
        f'[mcp_servers.notes]\ncommand = "{sys.executable}"\nargs = ["{HERE / "notes_mcp.py"}"]\ncwd = "{work}"\n'
    )
    flags = ("--skip-git-repo-check", "--json", "--dangerously-bypass-approvals-and-sandbox")
    return Launch((_bin("codex", "codex"), "exec", *flags, TASK), {})


def _opencode(url: str, model: str, home: Path, work: Path) -> Launch:
    limits = {"context": 131072, "output": 4096}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Corral",
        "options": {"baseURL": f"{url}/v1", "apiKey": "any"},
        "models": {model: {"name": model, "limit": limits}},
    }
    settings = {
        "permission": {"*": "allow"},
        "autoupdate": False,
        "share": "disabled",
        "model": f"corral/{model}",
        "small_model": f"corral/{model}",
        "provider": {"corral": provider},
    }
    (work / "opencode.json").write_text(json.dumps(settings))
    environment = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    return Launch((_bin("opencode", "opencode"), "run", TASK), environment)


def _qwen(url: str, model: str, home: Path, work: Path) -> Launch:
    environment = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "any", "OPENAI_MODEL": model}
    return Launch((_bin("qwen-code", "qwen"), "--yolo", "--auth-type", "openai", "-p", TASK), environment)


def _script(folder: str) -> Callable[[str, str, Path, Path], Launch]:
    """A library's: with_FOLDER.py, in its environment."""
    python, script = BUILD / folder / "bin" / "python", HERE / f"with_{folder.replace('-', '_')}.py"

    def launch(url: str, model: str, home: Path, work: Path) -> Launch:
        return Launch((str(python), str(script), TASK), {"PEER_URL": url, "PEER_MODEL": model})

    return launch


def _jdk(url: str, model: str, home: Path, work: Path) -> Launch:
    return Launch(("java", str(HERE / "with_jdk.java"), TASK), {"PEER_URL": url, "PEER_MODEL": model})


def _ai_sdk(url: str, model: str, home: Path, work: Path) -> Launch:
    script = str(shutil.copy(HERE / "with_ai_sdk.mjs", BUILD / "ai-sdk"))  # imports are looked for beside it
    return Launch(("node", script, TASK), {"PEER_URL": url, "PEER_MODEL": model})


def _llm(url: str, model: str, home: Path, work: Path) -> Launch:
    settings = {"model_id": "peer", "model_name": model, "api_base": f"{url}/v1", "supports_tools": True}
    (home / "extra-openai-models.yaml").write_text(json.dumps([settings]))  # JSON is YAML
    opened = 'open("made.txt", "w").write(text)'
    tool = f'def keep(text: str) -> str:\n    """Keep a note."""\n    {opened}\n    return "kept"\n'
    command = (str(BUILD / "llm" / "bin" / "llm"), "-m", "peer", "--key", "any", "--functions", tool, TASK)
    return Launch(command, {"LLM_USER_PATH": str(home)})


def _continue(url: str, model: str, home: Path, work: Path) -> Launch:
    entry: dict[str, Any] = {"name": model, "provider": "openai", "model": model, "apiBase": f"{url}/v1"}
    entry |= {"apiKey": "any", "roles": ["chat"], "capabilities": ["tool_use"]}
    config = home / "config.yaml"
    config.write_text(json.dumps({"name": "peer", "version": "1.0.0", "schema": "v1", "models": [entry]}))  # also YAML
    command = (_bin("continue", "cn"), "--config", str(config), "--auto", "-p", TASK)
    return Launch(command, {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_CLI_ENABLE_TELEMETRY": "0"})


def aider(url: str, model: str, *more: str) -> Launch:
    """Reads its turns from standard input; it has no tools, and puts a reminder behind the last message."""
    flags = (
        *("--no-git", "--yes-always", "--no-pretty", "--no-fancy-input", "--no-check-update", "--no-analytics"),
        *("--no-show-model-warnings", "--no-show-release-notes", "--map-tokens", "0"),
    )
    command = (str(BUILD / "aider" / "bin" / "aider"), "--model", f"ollama_chat/{model}", *flags, *more)
    return Launch(command, {"OLLAMA_API_BASE": url, "LITELLM_LOCAL_MODEL_COST_MAP": "True"})


def _aider(url: str, model: str, home: Path, work: Path) -> Launch:
    return aider(url, model, "--message", TASK)


AIDER = Program("aider", "aider", "aider-chat", "/api/chat", {}, _aider, loop="it has none")


PROGRAMS = (
    Program(
        "Claude Code",
        "claude-code",
        "@anthropic-ai/claude-code",
        "/v1/messages",
        {"name": "Bash", "arguments": {"command": SHELL}},
        _claude,
    ),
    Program(
        "Codex",
        "codex",
        "@openai/codex",
        "/v1/responses",
        {"name": "exec_command", "arguments": {"cmd": SHELL}},
        _codex,
    ),
    Program(
        "Codex, a tool of an MCP server",
        "codex",
        "@openai/codex",
        "/v1/responses",
        {"name": "mcp__notes.keep", "arguments": {"text": "seen"}},
        _codex,
    ),
    Program(
        "opencode",
        "opencode",
        "opencode-ai",
        "/v1/chat/completions",
        {"name": "bash", "arguments": {"command": SHELL}},
        _opencode,
    ),
    Program(
        "Qwen Code",
        "qwen-code",
        "@qwen-code/qwen-code",
        "/v1/chat/completions",
        {"name": "run_shell_command", "arguments": {"command": SHELL}},
        _qwen,
    ),
    Program(
        "Continue",
        "continue",
        "@continuedev/cli",
        "/v1/chat/completions",
        {"name": "Bash", "arguments": {"command": SHELL}},
        _continue,
    ),
    Program(
        "pydantic-ai",
        "pydantic-ai",
        "pydantic-ai-slim",
        "/v1/chat/completions",
        {"name": "keep", "arguments": {"text": "seen"}},
        _script("pydantic-ai"),
    ),
    Program(
        "LangGraph",
        "langgraph",
        "langgraph",
        "/v1/chat/completions",
        {"name": "keep", "arguments": {"text": "seen"}},
        _script("langgraph"),
    ),
    Program(
        "AI SDK",
        "ai-sdk",
        "ai",
        "/v1/chat/completions",
        {"name": "keep", "arguments": {"text": "seen"}},
        _ai_sdk,
    ),
    Program(
        "llm",
        "llm",
        "llm",
        "/v1/chat/completions",
        {"name": "keep", "arguments": {"text": "seen"}},
        _llm,
    ),
    Program(
        "smolagents",
        "smolagents",
        "smolagents",
        "/v1/chat/completions",
        {"name": "keep", "arguments": {"text": "seen"}},
        _script("smolagents"),
        last={"name": "final_answer", "arguments": {"answer": SAID}},
    ),
    Program(
        "instructor",
        "instructor",
        "instructor",
        "/v1/chat/completions",
        {"name": "PartialNote", "arguments": {"text": "seen"}},
        _script("instructor"),
        last={"name": "PartialNote", "arguments": {"text": SAID}},
        streamed=(True, False, False),
        loop="asks again with what was wrong",
    ),
    Program(
        "the JDK's HttpClient",
        "",
        "",
        "/v1/chat/completions",
        {"name": "keep", "arguments": {"text": "seen"}},
        _jdk,
        loop="by hand",
        offer="h2c",
    ),
    AIDER,
)
