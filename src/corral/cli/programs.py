"""The programs that `corral launch` starts, and what each is told. Pure.

Nothing of a program's own configuration is changed: all goes by variables and arguments, and by files in Corral's own
folder where a program takes neither. What keeps the prompt cache whole is told with its reason: a program that changes
an early line of its prompt with every turn has all of it read again. Sources: ollama cmd/launch/{claude,codex,opencode,
copilot}.go, 2026-08; aider's options and model metadata; requests of Claude Code 2.1, Codex 0.171, opencode 1.18 and
aider 0.86 as they were sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_CODEX_INSTRUCTIONS = (
    "You are a coding agent in the user's terminal. Work with the tools that you have: look at files before you change "
    "them, change no more than was asked for, run what shows that it works, and say briefly what you did."
)
_NO_KEY = "corral"  # programs insist on a key; the server takes any where none is set


@dataclass(frozen=True, slots=True)
class Target:
    """What a program is to talk to: the server's address, its key ("" for none), a model, its window in tokens."""

    url: str
    key: str
    model: str
    window: int
    folder: Path  # of Corral's own, for files that a program reads
    sees: bool = False
    thinks: bool = False

    @property
    def senses(self) -> list[str]:
        """What the model takes."""
        return ["text", "image"] if self.sees else ["text"]

    @property
    def answer_tokens(self) -> int:
        """The part of the window that is left for an answer."""
        return self.window // 4


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable for the program; `why` is told to the user, `secret` values are not."""

    name: str
    value: str
    why: str = ""
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a program is started."""

    settings: tuple[Setting, ...] = ()
    arguments: tuple[str, ...] = ()
    files: dict[Path, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Program:
    """A program: its command, where else its installer puts it (below home), how it is installed, what it needs.

    `prompt_tokens`: what its first prompt takes before anybody has said anything, as measured.
    """

    name: str
    title: str
    install: str
    prompt_tokens: int
    plan: Callable[[Target], Plan]
    elsewhere: tuple[str, ...] = ()
    calls_tools: bool = True

    @property
    def window(self) -> int:
        """A window to work in, in tokens."""
        return 32768 if self.prompt_tokens > 8000 else 16384


def _key(target: Target, name: str) -> Setting:
    return Setting(name, target.key or _NO_KEY, secret=bool(target.key))


def _claude(target: Target) -> Plan:
    models = ("OPUS", "SONNET", "HAIKU")
    return Plan(
        (
            Setting("ANTHROPIC_BASE_URL", target.url),
            Setting("ANTHROPIC_API_KEY", ""),
            _key(target, "ANTHROPIC_AUTH_TOKEN"),
            *(Setting(f"ANTHROPIC_DEFAULT_{size}_MODEL", target.model) for size in models),
            Setting("CLAUDE_CODE_SUBAGENT_MODEL", target.model),
            Setting("CLAUDE_CODE_ATTRIBUTION_HEADER", "0", "a line that changes with every turn, before the prompt"),
            Setting("CLAUDE_CODE_TOTAL_TOKENS_REMINDER", "off", "a count that changes with every turn"),
            Setting(
                "CLAUDE_CODE_AUTO_COMPACT_WINDOW", str(target.window), "the conversation is cut before the server must"
            ),
            Setting("CLAUDE_CODE_MAX_OUTPUT_TOKENS", str(target.answer_tokens)),
            Setting("DISABLE_ERROR_REPORTING", "1"),
            Setting("DISABLE_FEEDBACK_COMMAND", "1"),
            Setting("CLAUDE_CODE_DISABLE_FEEDBACK_SURVEY", "1"),
        ),
        ("--model", target.model),
    )


def _codex(target: Target) -> Plan:
    provider = {
        "name": "Corral",
        "base_url": f"{target.url}/v1",
        "wire_api": "responses",
        "env_key": "CORRAL_LAUNCH_KEY",
    }
    overrides: dict[str, str | int] = {
        "model_provider": "corral",
        **{f"model_providers.corral.{name}": value for name, value in provider.items()},
        "model_catalog_json": str(target.folder / "codex-models.json"),
        "model_context_window": target.window,
        "model_auto_compact_token_limit": target.window - target.answer_tokens,
    }
    # JSON's strings and numbers are TOML's, too
    told = [word for name, value in overrides.items() for word in ("-c", f"{name}={json.dumps(value)}")]
    catalog = json.dumps({"models": [_codex_model(target)]}, indent=2) + "\n"
    files = {target.folder / "codex-models.json": catalog}
    return Plan((_key(target, "CORRAL_LAUNCH_KEY"),), (*told, "-m", target.model), files)


def _codex_model(target: Target) -> dict[str, object]:
    """An entry of Codex's catalog: a model that is not in one gets instructions of 7,000 tokens, and a warning."""
    return {
        "slug": target.model,
        "display_name": target.model,
        "context_window": target.window,
        "shell_type": "default",
        "visibility": "list",
        "supported_in_api": True,
        "priority": 0,
        "truncation_policy": {"mode": "bytes", "limit": 10000},
        "input_modalities": target.senses,
        "base_instructions": _CODEX_INSTRUCTIONS,
        "support_verbosity": False,
        "supports_parallel_tool_calls": False,
        "supports_reasoning_summaries": False,
        "supported_reasoning_levels": [],
        "experimental_supported_tools": [],
    }


def _opencode(target: Target) -> Plan:
    limit = {"context": target.window, "output": target.answer_tokens}
    known: dict[str, object] = {"name": target.model, "limit": limit}
    if target.sees:
        known["modalities"] = {"input": target.senses, "output": ["text"]}
    if target.thinks:
        known["reasoning"] = True
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Corral",
        "options": {"baseURL": f"{target.url}/v1", "apiKey": "{env:CORRAL_LAUNCH_KEY}"},
        "models": {target.model: known},
    }
    model = f"corral/{target.model}"
    config = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {"corral": provider},
        "model": model,
        "small_model": model,  # titles are made here, too
    }
    return Plan((_key(target, "CORRAL_LAUNCH_KEY"), Setting("OPENCODE_CONFIG_CONTENT", json.dumps(config))))


def _aider(target: Target) -> Plan:
    model = f"openai/{target.model}"
    known = {
        "max_input_tokens": target.window,
        "max_output_tokens": target.answer_tokens,
        "max_tokens": target.answer_tokens,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "litellm_provider": "openai",
        "mode": "chat",
    }
    file = target.folder / "aider-models.json"
    arguments = (
        *("--model", model, "--weak-model", model),
        *("--model-metadata-file", str(file), "--no-show-model-warnings"),
        *("--map-refresh", "files"),  # a map that changes with every turn stands before the conversation
    )
    # through OpenAI's API: with ollama_chat every message asks for another window, and the model is loaded anew
    settings = (Setting("OPENAI_API_BASE", f"{target.url}/v1"), _key(target, "OPENAI_API_KEY"))
    return Plan(settings, arguments, {file: json.dumps({model: known}, indent=2) + "\n"})


def _copilot(target: Target) -> Plan:
    return Plan(
        (
            Setting("COPILOT_PROVIDER_BASE_URL", f"{target.url}/v1"),
            Setting("COPILOT_PROVIDER_API_KEY", target.key, secret=bool(target.key)),
            Setting("COPILOT_PROVIDER_WIRE_API", "responses"),
            Setting("COPILOT_MODEL", target.model),
        )
    )


PROGRAMS = (
    Program(
        "claude",
        "Claude Code",
        "curl -fsSL https://claude.ai/install.sh | bash, or npm install -g @anthropic-ai/claude-code",
        11_500,
        _claude,
        (".local/bin", ".claude/local"),
    ),
    Program("codex", "Codex", "npm install -g @openai/codex", 4_200, _codex),
    Program(
        "opencode",
        "OpenCode",
        "curl -fsSL https://opencode.ai/install | bash, or npm install -g opencode-ai",
        7_000,
        _opencode,
        (".opencode/bin",),
    ),
    Program(
        "aider", "aider", "python -m pip install aider-install && aider-install", 2_100, _aider, (".local/bin",), False
    ),
    Program("copilot", "Copilot CLI", "npm install -g @github/copilot", 8_000, _copilot),
)
