"""Which files a Modelfile's FROM, ADAPTER or DRAFT means, and the names they are sent under. Reads the disk only.

Source of patterns and texts: ollama parser/parser.go filesForModel, cmd/cmd.go createRequestFileNames, 2026-08.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from corral.cli.content_type import BINARY, SNIFF_BYTES, TEXT, ZIP, detect
from corral.errors import CorralError, PickleRefused

# The first pattern with matches of the right type gives the weights; "" = any type.
_WEIGHTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("model*.safetensors", "*/model*.safetensors"), ""),
    (("consolidated*.safetensors",), ""),
    (("pytorch_model*.bin",), ZIP),
    (("consolidated*.pth",), ZIP),
    (("*.gguf",), BINARY),
    (("*.bin",), BINARY),
)
_PICKLES = (".bin", ".pth")
_TEXT_FILES = ("*.json", "*/*.json", "chat_template.jinja")
_TOKENIZERS = ("tokenizer.model", "*/tokenizer.model")


class SourceError(CorralError):
    """A path of a Modelfile cannot be used."""


def expand(text: str, relative_to: Path) -> Path:
    """The path a Modelfile means: absolute, `~`, `~/x`, `~user/x`, or relative to the Modelfile's folder."""
    if text.startswith("~"):
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise SourceError(str(error)) from error
    return relative_to / text


def model_files(path: Path) -> list[Path]:
    """The files of a source: itself, or a folder's weights with what belongs to them.

    Raises FileNotFoundError when there is nothing at `path`, SourceError when it holds no model.
    """
    if not path.is_dir():
        with path.open("rb"):
            return [path]
    root = path.resolve()
    return list(dict.fromkeys(_inside(root, file) for file in _folder_files(root)))


def sent_names(files: Iterable[Path]) -> dict[Path, str]:
    """The key each file is sent under: its base name, or its path below the common folder when there are several."""
    absolute = {file: Path(os.path.abspath(file)) for file in files}  # noqa: PTH100  keeps symlinks' names
    if len(absolute) < 2:
        return {file: file.name for file in absolute}
    root = Path(os.path.commonpath([place.parent for place in absolute.values()]))
    return {file: place.relative_to(root).as_posix() for file, place in absolute.items()}


def _folder_files(root: Path) -> list[Path]:
    weights = next((found for patterns, kind in _WEIGHTS if (found := _weights(root, patterns, kind))), None)
    if weights is None:
        raise SourceError(f"no Modelfile or safetensors files found in {root}")
    if weights[0].suffix in _PICKLES and _type_of(weights[0]) == ZIP:
        raise SourceError(str(PickleRefused(weights[0].name)))  # before gigabytes are sent to be refused
    if weights[0].suffix == ".gguf":
        return weights  # a GGUF is complete; the server would refuse a config.json beside it
    # Folders below hold further modules where modules.json says so, elsewhere the same weights in another format.
    has_modules = (root / "modules.json").is_file()
    files = [file for file in weights if has_modules or file.parent == root]
    for pattern in _TEXT_FILES:
        for file in sorted(root.glob(pattern)):
            kind = _type_of(file)
            if kind != TEXT:
                raise SourceError(f"invalid content type: expected {kind} for {file}")
            files.append(file)
    files += next((found for p in _TOKENIZERS if (found := _weights(root, (p,), BINARY))), [])
    return files


def _weights(root: Path, patterns: tuple[str, ...], kind: str) -> list[Path]:
    """Matches of the patterns if the first has any and all are of the type; else nothing, and the next one is tried."""
    found = sorted(root.glob(patterns[0]))
    if not found or (kind and any(_type_of(file) != kind for file in found)):
        return []
    return [*found, *(file for pattern in patterns[1:] for file in sorted(root.glob(pattern)))]


def _type_of(file: Path) -> str:
    with file.open("rb") as stream:
        return detect(stream.read(SNIFF_BYTES)).partition(";")[0]


def _inside(root: Path, file: Path) -> Path:
    real = file.resolve()
    if not real.is_relative_to(root):
        relative = os.path.relpath(real, root)
        hint = "\n\nUse --local-dir <dir> when downloading model to disable caching" if ".cache" in relative else ""
        raise SourceError(f"insecure path: {relative}{hint}")
    return real
