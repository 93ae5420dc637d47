"""Files named in a prompt to a multimodal model: found, checked, taken out of the text.

Source of the pattern and texts: ollama cmd/interactive.go extractFileData, 2026-08.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path

from corral.cli.console import Console
from corral.cli.content_type import SNIFF_BYTES, detect
from corral.errors import CorralError

_CANDIDATE = re.compile(r"(?:[A-Za-z]:)?(?:~/|\./|/|\\)[\S\\ ]+?\.(?i:jpg|jpeg|png|webp|wav)\b")
_ESCAPED = re.compile(r"\\([ ()\[\]{}$&;'\\*?~])")
_KINDS = {"image/jpeg": "image", "image/png": "image", "image/webp": "image", "audio/wave": "audio"}
_MAX_BYTES = 100 * 2**20


class UnusableFile(CorralError):
    """A file that a prompt names cannot be attached; already reported on the error stream."""


def _path(written: str) -> Path:
    """The file that a text means; `~/` is the user's own folder."""
    return Path(_ESCAPED.sub(r"\1", written)).expanduser()


def candidates(text: str) -> list[str]:
    """The parts of a text that look like a path of an image or sound, as they stand in it."""
    return _CANDIDATE.findall(text)


def tell_unseen(text: str, console: Console, model: str, *, sees: bool) -> None:
    """Say that a picture or sound whose path a prompt holds goes as that text, where the model takes none."""
    files = [] if sees else [written for written in candidates(text) if _path(written).is_file()]
    for written in files:
        console.note(f"{model} takes no images and no sounds; '{written}' is sent as text")


def attach(text: str, console: Console) -> tuple[str, list[str]]:
    """The prompt without the files it names, and their contents in base64. Raises UnusableFile."""
    contents = []
    for written in candidates(text):
        path = _path(written)
        if not path.exists():
            continue
        try:
            kind, data = _read(path)
        except (UnusableFile, OSError) as error:
            console.note(f'Couldn\'t process file: "{error}"')
            raise UnusableFile(str(error)) from error
        console.note(f"Added {kind} '{path}'")
        text = text.replace(f"'{path}'", "").replace(f"'{written}'", "").replace(str(path), "").replace(written, "")
        contents.append(base64.b64encode(data).decode())
    return text.strip(), contents


def _read(path: Path) -> tuple[str, bytes]:
    with path.open("rb") as stream:
        head = stream.read(SNIFF_BYTES)
        found = detect(head)
        if found not in _KINDS:
            raise UnusableFile(f"invalid file type: {found}")
        if path.stat().st_size > _MAX_BYTES:
            raise UnusableFile("file size exceeds maximum limit (100MB)")
        return _KINDS[found], head + stream.read()
