"""Templates, pickles, evaluation, commands: what comes from outside is data. Sources are searched, templates tried."""

from __future__ import annotations

import ast
import builtins
import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.server import RunningServer

import corral

SOURCES = sorted(Path(corral.__file__).parent.rglob("*.py"))
# builtins and modules that make code of data, or commands of texts
CODE = {"eval", "exec", "compile", "__import__"}
MODULES = {
    "pickle",
    "marshal",
    "shelve",
    "yaml",
    "dill",
    "joblib",
    "torch",
    "jinja2",
    "mako",
    "code",
    "runpy",
    "cloudpickle",
}
SHELLS = {"getoutput", "getstatusoutput", "spawnl", "spawnlp", "create_subprocess_shell"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call by the last part of its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            yield name, node


def test_no_source_makes_code_of_data() -> None:
    assert len(SOURCES) > 400
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        for name, call in calls(tree):
            assert not (name in CODE and isinstance(call.func, ast.Name)), (path, call.lineno)
            assert name not in SHELLS, (path, call.lineno)
            assert not any(word.arg == "shell" for word in call.keywords), (path, call.lineno)
            assert ast.unparse(call.func) not in {"os.system", "os.popen"}, (path, call.lineno)
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & MODULES, (path, names)


PAYLOADS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('touch X').read() }}",
    "{% import os %}{{ os.system('touch X') }}",
    "{{ .Prompt.__class__ }}",
    '{{ call .Prompt "x" }}',
    '{{ exec "touch X" }}',
    '{{ template "/etc/passwd" . }}',
    '{{ include "/etc/passwd" }}',
    '{{ readFile "/etc/passwd" }}',
    '{{ env "HOME" }}',
    '{{ printf "%99999999999d" 1 }}',
    '{{ html .Prompt | js | urlquery | printf "%v%[1]*d" }}',
    "{{ index .Messages 99999999999 }}",
    "{{ slice .Prompt 0 99999999999 }}",
    '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}',
]


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_a_go_template_can_only_write_text(server: RunningServer, tmp_path: Path, payload: str) -> None:
    before = {path for path in tmp_path.rglob("*") if "X" in path.name}
    body = {"model": "go", "prompt": "PROMPT", "template": payload, "_debug_render_only": True}
    status, reply = await server.post("/api/generate", body)
    assert status in {200, 400}, reply
    for word in ("root:", "<class", "subprocess", "object at 0x", "built-in"):
        assert word not in str(reply)
    assert {path for path in tmp_path.rglob("*") if "X" in path.name} == before


class _Touches:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return builtins.open, (str(self.path), "w")


async def test_a_pickle_is_refused_unopened(server: RunningServer, tmp_path: Path) -> None:
    data = pickle.dumps(_Touches(tmp_path / "touched"))
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    await server.call("POST", f"/api/blobs/{digest}", data)
    for name in ("pytorch_model.bin", "model.pth", "model.safetensors", "m.gguf", "config.json"):
        status, reply = await server.post("/api/create", {"model": "x", "files": {name: digest}})
        assert status == 400, (name, reply)
    assert not (tmp_path / "touched").exists()


async def test_arguments_of_calls_are_json_and_nothing_else(server: RunningServer) -> None:
    for arguments in (
        "__import__('os').system('x')",
        "{'a': 1}",
        "!!python/object/apply:os.system [x]",
        '{"a": 1} or 1',
    ):
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
        messages.append({"role": "tool", "tool_call_id": "c", "content": "ok"})
        status, reply = await server.post("/v1/chat/completions", {"model": "jinja", "messages": messages})
        assert status in {200, 400}, reply
