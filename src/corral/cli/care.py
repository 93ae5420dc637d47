"""Commands that work on the store itself, without a server: fsck, prune, import, export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from corral.cli.context import Context
from corral.cli.flags import UsageError
from corral.cli.formats import human_bytes
from corral.cli.progress import Progress
from corral.config import Settings
from corral.errors import CorralError
from corral.store.adopt import Adopted, import_hf_cache, import_lmstudio, import_ollama
from corral.store.archive import export, import_archive
from corral.store.care import fsck as check_store
from corral.store.care import prune_at_start
from corral.store.models import ModelStore

Importer = Callable[..., Iterator[Adopted]]

# Where the other programs keep their models, below the home directory unless absolute; the first that exists is meant.
_SOURCES: dict[str, tuple[Importer, tuple[str, ...]]] = {
    "ollama": (import_ollama, (".ollama/models", "/usr/share/ollama/.ollama/models")),
    "lmstudio": (import_lmstudio, (".lmstudio/models", ".cache/lm-studio/models")),
    "hf-cache": (import_hf_cache, (".cache/huggingface/hub",)),
}


def fsck(context: Context) -> int:
    """`corral fsck [--repair]`: exit 1 when a model cannot be used."""
    console = context.console
    with Progress(console) as progress:
        report = check_store(
            _store(context.settings),
            repair=context.parsed.flag("repair"),
            on_progress=lambda done, total: _show_check(progress, done, total),
        )
    for finding in report.findings:
        about = f" ({', '.join(finding.models)})" if finding.models else ""
        detail = f": {finding.detail}" if finding.detail else ""
        repaired = f"; {finding.repaired}" if finding.repaired else ""
        console.print(f"{finding.problem}: {finding.file}{about}{detail}{repaired}")
    read = human_bytes(report.bytes_read)
    console.print(f"checked {report.models} models, {report.blobs} blobs, {read}: {_verdict(len(report.findings))}")
    return 0 if report.is_healthy else 1


def _show_check(progress: Progress, done: int, total: int) -> None:
    progress.transfer("store", "checking blobs", total, done)


def _verdict(findings: int) -> str:
    return f"{findings} problem{'s' if findings > 1 else ''} found" if findings else "no problems found"


def prune(context: Context) -> int:
    """`corral prune`: what the server does when it starts, without the grace period of an hour."""
    pruned = prune_at_start(_store(context.settings, gc_grace_s=0))
    for file in pruned.files:
        context.console.print(f"deleted {file}")
    if pruned.refused:
        raise UsageError(f"no blobs were deleted: {pruned.refused}; see corral fsck")
    context.console.print(f"freed {human_bytes(pruned.freed_bytes)}")
    return 0


def import_models(context: Context) -> int:
    """`corral import SOURCE [DIRECTORY]`: exit 1 when a model was left out."""
    name = context.words[0]
    if name not in _SOURCES and len(context.words) == 1 and Path(name).expanduser().is_file():
        return _import_archive(context, Path(name).expanduser())
    if name not in _SOURCES:
        raise UsageError(f'unknown source "{name}" (must be {", ".join(_SOURCES)}, or an archive that export wrote)')
    importer, places = _SOURCES[name]
    if len(context.words) > 1:
        source = Path(context.words[1]).expanduser()
    else:
        found = [place for text in places if (place := Path.home() / text).is_dir()]
        source = found[0] if found else Path.home() / places[0]
    if not source.is_dir():
        raise UsageError(f"{source} is no directory; name the place where {name} keeps its models")
    left_out = taken = 0
    store = _store(context.settings)
    for adopted in importer(store, source, copy=context.parsed.flag("copy")):
        if adopted.skipped:
            left_out += 1
            context.console.print(f"skipped {adopted.name}: {adopted.skipped}")
        else:
            taken += 1
            verdict = _verdict_on(store, adopted.name)
            context.console.print(f"imported {adopted.name} ({human_bytes(adopted.size_bytes)}): {verdict}")
    if not taken and not left_out:
        context.console.print(f"no models found in {source}")
    return 1 if left_out else 0


def _import_archive(context: Context, source: Path) -> int:
    """Every model of an archive."""
    store = _store(context.settings)
    with Progress(context.console) as progress:
        taken = list(import_archive(store, source, lambda done, total: progress.transfer("", source.name, total, done)))
    for model in taken:
        verdict = _verdict_on(store, model.name.full)
        context.console.print(f"imported {model.name.short} ({human_bytes(model.size_bytes)}): {verdict}")
    return 0


def export_models(context: Context) -> None:
    """`corral export MODEL... -o FILE`."""
    target = context.parsed.text("output")
    if not target:
        raise UsageError("name the file to write: corral export MODEL -o FILE")
    store = _store(context.settings)
    names = list(dict.fromkeys(store.resolve(word) for word in context.words))
    path = Path(target).expanduser()
    with Progress(context.console) as progress:
        size = export(store, names, path, lambda done, total: progress.transfer("", path.name, total, done))
    context.console.print(f"wrote {path}: {', '.join(name.short for name in names)} ({human_bytes(size)})")


def _verdict_on(store: ModelStore, name: str) -> str:
    """Whether a model that has been taken over runs here, in a few words."""
    try:
        return str(store.load(store.resolve(name)).verdict)
    except (CorralError, OSError) as error:
        return f"cannot run here: {error}"


def _store(settings: Settings, *, gc_grace_s: float = 3600) -> ModelStore:
    return ModelStore.of(settings, gc_grace_s=gc_grace_s)
