"""The one-call commands: list, ps, cp, rm, stop."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from corral.cli.api import Api, ServerError
from corral.cli.context import Context
from corral.cli.flags import Count
from corral.cli.formats import human_bytes, human_time, parse_time
from corral.cli.table import render_table
from corral.errors import CorralError

_ID_LENGTH = 12
_CLEAR = "\x1b[H\x1b[2J"
_WATCH_S = 1.0


class NothingToStop(CorralError):
    """stop was given a name that no model has."""

    def __init__(self, name: str) -> None:
        super().__init__(f'couldn\'t find model "{name}" to stop')


def list_models(context: Context) -> None:
    """`corral list [PREFIX]`."""
    prefix = context.words[0] if context.words else ""
    if context.parsed.flag("available"):
        _list_available(context, prefix)
        return
    if context.parsed.flag("json"):
        print_json(context, {"models": _named(context.api.get("/api/tags"), prefix)})
        return
    text = models_table(context.api, prefix, datetime.now(UTC))
    context.console.print(text, end="")
    if prefix and text.count("\n") == 1:
        context.console.note(f"no model begins with {prefix}")


def _list_available(context: Context, prefix: str) -> None:
    """What the catalog has, here or not."""
    models = _named(context.api.get("/api/catalog"), prefix)
    if context.parsed.flag("json"):
        print_json(context, {"models": models})
        return
    rows = [(str(model["name"]), human_bytes(int(model["size"])), str(model.get("about", ""))) for model in models]
    context.console.print(render_table(rows, ("NAME", "SIZE", "NOTE")), end="")


def models_table(api: Api, prefix: str, now: datetime) -> str:
    """The table of stored models whose name begins with `prefix`, in any case; the REPL prints it too."""
    rows = []
    for model in _named(api.get("/api/tags"), prefix):
        size = "-" if model.get("remote_model") else human_bytes(int(model.get("size") or 0))
        modified = human_time(parse_time(model.get("modified_at")), now)
        rows.append((model["name"], str(model.get("digest", ""))[:_ID_LENGTH], size, modified))
    return render_table(rows, ("NAME", "ID", "SIZE", "MODIFIED"))


def list_running(context: Context) -> None:
    """`corral ps [PREFIX]`."""
    prefix = context.words[0] if context.words else ""
    if context.parsed.flag("json"):
        print_json(context, {"models": _named(context.api.get("/api/ps?verbose=1"), prefix)})
    elif context.parsed.flag("watch"):
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                context.console.print(_CLEAR + _running_table(context, prefix), end="")
                time.sleep(_WATCH_S)
    else:
        context.console.print(_running_table(context, prefix), end="")


def _running_table(context: Context, prefix: str) -> str:
    models = [m for m in context.api.get("/api/ps").get("models") or [] if str(m["name"]).startswith(prefix)]
    rows = [_running_row(model, datetime.now(UTC)) for model in models]
    titles: tuple[str, ...] = ("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL")
    if any("node" in model for model in models):  # of a cluster
        rows = [(*row, str(model.get("node", ""))) for row, model in zip(rows, models, strict=True)]
        titles = (*titles, "NODE")
    return render_table(rows, titles)


def print_json(context: Context, answer: Mapping[str, Any]) -> None:
    """What the server said, for scripts."""
    context.console.print(json.dumps(answer, indent=2, ensure_ascii=False))


def _named(answer: Mapping[str, Any], prefix: str) -> list[Mapping[str, Any]]:
    """The models of an answer whose name begins with `prefix`, in any case."""
    return [m for m in answer.get("models") or [] if str(m["name"]).lower().startswith(prefix.lower())]


def _running_row(model: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    size, on_gpu = int(model.get("size") or 0), int(model.get("size_vram") or 0)
    expires = parse_time(model.get("expires_at"))
    stopping = expires is not None and expires.year > 1 and expires < now
    return (
        str(model["name"]),
        str(model.get("digest", ""))[:_ID_LENGTH],
        human_bytes(size),
        processor_split(size, on_gpu),
        str(int(model.get("context_length") or 0)),
        "Stopping..." if stopping else human_time(expires, now),
    )


def processor_split(size: int, on_gpu: int) -> str:
    """Which part of a model's bytes is where: `100% CPU`, `48%/52% CPU/GPU`."""
    if on_gpu == 0:
        return "100% CPU"
    if on_gpu == size:
        return "100% GPU"
    if on_gpu > size or size == 0:
        return "Unknown"
    on_cpu = math.floor(100 * (size - on_gpu) / size + 0.5)
    return f"{on_cpu}%/{100 - on_cpu}% CPU/GPU"


def copy(context: Context) -> None:
    """`corral cp SOURCE DESTINATION`."""
    source, destination = context.words
    context.api.post("/api/copy", {"source": source, "destination": destination})
    context.console.print(f"copied '{source}' to '{destination}'")


def remove(context: Context) -> None:
    """`corral rm MODEL...`: unload, then delete; the first failure ends it."""
    for name in context.words:
        try:
            unload(context.api, name)
        except ServerError as error:
            if error.status != 404:
                context.console.note(f"Warning: unable to stop model '{name}'")
        context.api.remove("/api/delete", {"model": name, "name": name})
        context.console.print(f"deleted '{name}'")


def stop(context: Context) -> None:
    """`corral stop MODEL`, `corral stop --server`."""
    if context.parsed.flag("server"):
        from corral.cli.background import stop_server

        stop_server(context)
        return
    Count(1, 1).check(context.words)
    name = context.words[0]
    try:
        unload(context.api, name)
    except ServerError as error:
        if error.status == 404:
            raise NothingToStop(name) from None
        raise


def unload(api: Api, name: str) -> None:
    """Ask the server to unload a model; ServerError 404 when it does not exist."""
    api.show_model(name)
    api.post("/api/generate", {"model": name, "prompt": "", "keep_alive": 0, "stream": False})
