"""Saved conversations: the engine's slots on disk, so that they survive unload and restart. Used by sched/.

Before a runner stops, `save` writes every slot that holds a conversation; after the next one is ready, `restore` puts
the newest ones back, and the engine finds them by their common prefix as if nothing had happened (measured: the next
turn of a 1,442-token conversation evaluates 6 tokens). A folder per way of loading (model, adapters, type of the KV
cache) keeps states apart that do not fit each other; a runner can reach its own folder only.

    <root>/<key>/<digest of the tokens>-<size>.kv   mode 0600, oldest deleted first when the total passes max_bytes
    <root>/<key>/slot-<n>.part                      being written

A state file starts with llama.cpp's header: magic, version, number of words (u32), then the words of the tokens. The
engine aborts on a file that is too short, so the name holds the size.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from corral.aio import run_blocking
from corral.errors import CorralError, EngineError
from corral.runner.client import RunnerClient
from corral.runner.spec import RunnerSpec

_LOG = logging.getLogger(__name__)
_MAGIC = 0x67677371  # "ggsq": LLAMA_STATE_SEQ_MAGIC
_HEADER = struct.Struct("<III")
_FEWEST_TOKENS = 64  # a shorter prompt is read again as quickly
_MOST_TOKENS = 4 * 2**20
_SEAM_TOKENS = 8  # the end of an answer may be cut into other tokens once more text follows it
_PACKED = b"\xff\xff\xff\xff"  # marker word, version word, count, tokens, media; older engines wrote bare tokens
_SPARE_DISK_BYTES = 2**30
_SUFFIX = ".kv"


@dataclass(frozen=True, slots=True)
class SavedConversation:
    """One file; `tokens` are 32-bit words, images left out."""

    path: Path
    size_bytes: int
    saved_at: float
    tokens: bytes

    def continues(self, older: SavedConversation) -> bool:
        """Whether the older one is a beginning of this one, but for a few tokens at the seam."""
        beginning = older.tokens[: max(0, len(older.tokens) - 4 * _SEAM_TOKENS)]
        return len(self.tokens) >= len(older.tokens) and self.tokens.startswith(beginning)


class ConversationStore:
    """The saved conversations of all models below one folder.

    max_bytes: of all files together; 0 = keep none. Failures are logged, never raised: a lost save costs a prefill.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes

    def folder(self, spec: RunnerSpec) -> Path | None:
        """Where a runner of this spec may save (the handle makes it, 0700); None when nothing is kept."""
        if self._max_bytes <= 0 or spec.embedding or spec.rerank:
            return None
        return self._root / state_key(spec)

    async def save(self, client: RunnerClient, spec: RunnerSpec, deadline_s: float = 10.0) -> int:
        """Save every idle slot that was used since the load; how many. Call before the runner is stopped."""
        folder = self.folder(spec)
        if folder is None:
            return 0
        saved = 0
        try:
            async with asyncio.timeout(deadline_s):
                for slot in await client.slots():
                    if not slot.get("is_processing") and slot.get("n_prompt_tokens", 0) >= _FEWEST_TOKENS:
                        saved += await self._save_slot(client, folder, int(slot["id"]))
        except (CorralError, TimeoutError, OSError) as error:
            _LOG.warning("conversations of %s were not all saved: %r", spec.model_path.name, error)
        finally:
            await run_blocking(self._tidy, folder)
        return saved

    async def _save_slot(self, client: RunnerClient, folder: Path, slot: int) -> bool:
        if (await run_blocking(shutil.disk_usage, folder)).free < _SPARE_DISK_BYTES:
            _LOG.warning("no conversation saved: less than %d bytes are free", _SPARE_DISK_BYTES)
            return False
        part = folder / f"slot-{slot}.part"
        try:
            await client.save_slot(slot, part.name)
        except EngineError as error:  # an image in the prompt, for one
            _LOG.debug("slot %d was not saved: %s", slot, error)
            return False
        return await run_blocking(_keep, part)

    async def restore(self, client: RunnerClient, spec: RunnerSpec, slots: int) -> int:
        """Load the newest conversations into the slots of a runner that has served nothing yet; how many."""
        folder = self.folder(spec)
        if folder is None:
            return 0
        restored = 0
        for slot, saved in enumerate((await run_blocking(saved_in, folder))[:slots]):
            try:
                await client.restore_slot(slot, saved.path.name)
                restored += 1
            except EngineError as error:  # another engine's format, a shorter window, a damaged file
                _LOG.info("a saved conversation of %s is useless: %s", spec.model_path.name, error)
                await run_blocking(saved.path.unlink, missing_ok=True)
            except CorralError as error:  # it took the runner down: never try this file again
                _LOG.warning("no conversation restored: %s", error)
                await run_blocking(saved.path.unlink, missing_ok=True)
                break
        return restored

    def forget(self, spec: RunnerSpec) -> None:
        """Delete what is saved for a way of loading. Blocking."""
        shutil.rmtree(self._root / state_key(spec), ignore_errors=True)

    def _tidy(self, folder: Path) -> None:
        """Drop leftovers and whatever is over the bound, oldest first."""
        for part in folder.glob("*.part"):
            part.unlink(missing_ok=True)
        files = [(path, path.stat()) for path in self._root.glob(f"*/*{_SUFFIX}")]
        total = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda entry: entry[1].st_mtime):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size


def state_key(spec: RunnerSpec) -> str:
    """A name for what a saved state depends on. Blobs are named by digest, so a path stands for its bytes.

    Flash attention is left out, for tuning may change it: the engine refuses a state that was laid out for the other.
    """
    parts = [str(path) for path in spec.readable_paths]
    parts.append(spec.kv_cache_type or "f16")
    if spec.translation:
        parts.append(spec.translation)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def saved_in(folder: Path) -> list[SavedConversation]:
    """The conversations of a folder, newest first; files that are none are deleted."""
    found = []
    for path in folder.glob(f"*{_SUFFIX}"):
        saved = read_saved(path)
        if saved is None:
            path.unlink(missing_ok=True)
        else:
            found.append(saved)
    return sorted(found, key=lambda saved: saved.saved_at, reverse=True)


def read_saved(path: Path) -> SavedConversation | None:
    """The head of a state file; None when it is damaged."""
    try:
        with path.open("rb") as source:
            magic, _, count = _HEADER.unpack(source.read(_HEADER.size))
            if magic != _MAGIC or not 0 < count <= _MOST_TOKENS:
                return None
            words = source.read(4 * count)
            stat = os.fstat(source.fileno())
    except (OSError, struct.error):
        return None
    if len(words) != 4 * count or (path.suffix == _SUFFIX and not path.stem.endswith(f"-{stat.st_size}")):
        return None
    if words.startswith(_PACKED) and len(words) > 12:
        words = words[12 : 12 + 4 * int.from_bytes(words[8:12], "little")]
    return SavedConversation(path, stat.st_size, stat.st_mtime, words)


def _keep(part: Path) -> bool:
    """Give a written state its name; conversations that it continues are superseded."""
    saved = read_saved(part)
    if saved is None:
        part.unlink(missing_ok=True)
        return False
    for older in saved_in(part.parent):
        if saved.continues(older):
            older.path.unlink(missing_ok=True)
    part.chmod(0o600)
    with part.open("rb") as written:
        os.fsync(written.fileno())
    digest = hashlib.sha256(saved.tokens).hexdigest()[:32]
    part.replace(part.parent / f"{digest}-{saved.size_bytes}{_SUFFIX}")
    return True
