"""`corral launch PROGRAM`: start another program with a model of this server; says all that it sets before it does.

The program takes this process's place, so that signals, the terminal and its exit status are its own. The model that
was chosen for a program is remembered in `<home>/launch/chosen.json`, and not asked for again.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corral.cli.api import ServerError
from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.cli.nearest import nearest
from corral.cli.programs import PROGRAMS, Plan, Program, Target
from corral.cli.reaching import reach_server
from corral.cli.run import show_or_pull
from corral.config import environment_with
from corral.names import ModelName
from corral.store.files import make_directory, write_atomically

_WINDOW = "num_ctx"


def launch(context: Context) -> int:
    """`corral launch [PROGRAM] [--model M] [--num-ctx N] [--dry-run] [-- ARGUMENTS...]`."""
    if not context.words:
        _list_programs(context)
        return 0
    program, arguments = _program(context.words[0]), context.words[1:]
    dry = context.parsed.flag("dry-run")
    command = _find(program)
    if not command and not dry:
        raise UsageError(f"{program.title} is not installed; its makers say: {program.install}")
    reach_server(context, start=not dry)
    target = _target(context, program, dry=dry)
    plan = program.plan(target)
    words = [command or program.name, *plan.arguments, *arguments]
    say = context.console.print if dry else context.console.note
    say(_told(program, target, plan, words), end="")
    if dry:
        return 0
    for path, text in plan.files.items():
        _write(path, text)
    os.execve(command, words, environment_with({each.name: each.value for each in plan.settings}))  # noqa: S606  no shell


def _list_programs(context: Context) -> None:
    for program in PROGRAMS:
        where = _find(program)
        context.console.print(f"{program.name:<10}{program.title:<14}{where or 'not installed: ' + program.install}")
    context.console.print("\ncorral launch PROGRAM [--model MODEL] [--dry-run] [-- ARGUMENTS FOR IT]")


def _program(word: str) -> Program:
    found = next((program for program in PROGRAMS if program.name == word), None)
    if found is None:
        names = [program.name for program in PROGRAMS]
        close = nearest(word, names)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
        raise UsageError(f'no program "{word}" to launch; {hint}')
    return found


def _find(program: Program) -> str:
    """Where the program is; "" when it is not installed."""
    places = [shutil.which(program.name), *(str(Path.home() / place / program.name) for place in program.elsewhere)]
    return next((place for place in places if place and os.access(place, os.X_OK)), "")


def _target(context: Context, program: Program, *, dry: bool) -> Target:
    name = _model(context, program, dry=dry)
    shown = context.api.show_model(name) if dry else show_or_pull(context, name)
    if program.calls_tools and "tools" not in (shown.get("capabilities") or []):
        raise UsageError(f"{program.title} needs a model that calls tools, {name} does not; see corral show {name}")
    asked = context.parsed.number("num-ctx")
    window, most = _windows(context, shown)
    if asked:
        window = min(asked, most) if most else asked
        name = _with_window(context, name, window, dry=dry)
    elif window < program.prompt_tokens:
        context.console.note(_too_small(program, name, window, most))
    host, keys, able = context.settings.host, context.settings.api_keys, shown.get("capabilities") or []
    return Target(
        host.url,
        keys[0] if keys else "",
        name,
        window,
        context.settings.home / "launch",
        sees="vision" in able,
        thinks="thinking" in able,
    )


def _windows(context: Context, shown: Mapping[str, Any]) -> tuple[int, int]:
    """The window that the model will have, and the one it was made for (0: it does not say)."""
    info = shown.get("model_info") or {}
    most = int(info.get(f"{info.get('general.architecture')}.context_length") or 0)
    lines = [line.split() for line in str(shown.get("parameters") or "").splitlines()]
    own = next((int(words[1]) for words in lines if len(words) == 2 and words[0] == _WINDOW), 0)
    if not own:
        own = int((context.api.get("/api/status?verbose=1").get("limits") or {}).get("default_window") or 0)
    return min(own, most) if most and own else own or most, most


def _too_small(program: Program, name: str, window: int, most: int) -> str:
    need = f"{program.title}'s own instructions take about {program.prompt_tokens} tokens"
    if most and most < program.prompt_tokens:
        return f"Warning: {need}, and {name} holds {most} at most: choose another model"
    wide = min(program.window, most) if most else program.window
    return f"Warning: {need}, the window of {name} is {window}: add --num-ctx {wide}"


def _with_window(context: Context, name: str, window: int, *, dry: bool) -> str:
    """A model of the same weights with this window, made where it is not there yet."""
    short, _, tag = ModelName.parse_loose(name).short.rpartition(":")
    wide = f"{short}:ctx{window}" if tag == "latest" else f"{short}:{tag}-ctx{window}"
    if wide in _stored(context):
        return wide
    context.console.note(f"{'would make' if dry else 'makes'} {wide}: the weights of {name}, a window of {window}")
    if not dry:
        for _ in context.api.stream("/api/create", {"model": wide, "from": name, "parameters": {_WINDOW: window}}):
            pass
    return wide


def _stored(context: Context) -> list[str]:
    return [str(model["name"]) for model in context.api.get("/api/tags").get("models") or []]


def _model(context: Context, program: Program, *, dry: bool) -> str:
    """The model that was named, or chosen for this program before, or the only one, or the one that is chosen now."""
    chosen = context.settings.home / "launch" / "chosen.json"
    before = _chosen(chosen)
    name = context.parsed.text("model") or before.get(program.name, "")
    if name and not context.parsed.text("model") and not _exists(context, name):
        name = ""
    name = name or _choose(context, program)
    if not dry and before.get(program.name) != name:
        _write(chosen, json.dumps({**before, program.name: name}, indent=2) + "\n")
    return name


def _exists(context: Context, name: str) -> bool:
    try:
        context.api.show_model(name)
    except ServerError as error:
        if error.status == 404:
            return False
        raise
    return True


def _choose(context: Context, program: Program) -> str:
    models = context.api.get("/api/tags").get("models") or []
    able = [str(each["name"]) for each in models if "embedding" not in (each.get("capabilities") or [])]
    callers = [str(each["name"]) for each in models if "tools" in (each.get("capabilities") or [])]
    names = callers if program.calls_tools else able
    if len(names) == 1 or (names and context.parsed.flag("yes")):
        return names[0]
    if not names:
        kind = "no model that calls tools is here" if program.calls_tools else "no model is here"
        raise UsageError(f"{kind}; name one with --model, it is pulled then")
    console = context.console
    if not (console.reads_terminal and console.writes_terminal):
        raise UsageError(f"name the model with --model: {', '.join(names)}")
    return _answer(context, program, names)


def _answer(context: Context, program: Program, names: Sequence[str]) -> str:
    console = context.console
    console.print(f"Which model for {program.title}? It is remembered.")
    for number, name in enumerate(names, 1):
        console.print(f"  {number}  {name}")
    while True:
        console.print("> ", end="")
        line = console.stdin.readline()
        if not line:
            raise UsageError("no model was chosen")
        word = line.strip()
        if word.isdigit() and 1 <= int(word) <= len(names):
            return names[int(word) - 1]
        if word in names:
            return word


def _chosen(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(model) for name, model in found.items()} if isinstance(found, dict) else {}


def _write(path: Path, text: str) -> None:
    make_directory(path.parent)
    write_atomically(path, text.encode(), path.parent)


def _told(program: Program, target: Target, plan: Plan, words: Sequence[str]) -> str:
    """What is set, written and run, a line each, in a form that a shell takes."""
    lines = [f"{program.title} with {target.model} at {target.url}, window {target.window}"]
    for each in plan.settings:
        value = "…" if each.secret else shlex.quote(each.value)
        lines.append(f"  sets    {each.name}={value}" + (f"  # {each.why}" if each.why else ""))
    lines += [f"  writes  {path}" for path in plan.files]
    lines.append(f"  runs    {shlex.join(words)}")
    return "".join(f"{line}\n" for line in lines)
