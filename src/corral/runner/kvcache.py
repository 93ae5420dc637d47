"""Saved conversations: the engine's slots on disk, so that they survive unload and restart. Used by sched/.

Before a runner stops, `save` writes every slot that holds a conversation; after the next one is ready, `restore` puts
the newest ones back, and the engine finds them by their common prefix as if nothing had happened (measured: the next
turn of a 1,442-token conversation evaluates 6 tokens). A folder per way of loading (engine, model, adapters, type of
the KV cache) keeps states apart that do not fit each other; a runner can read its own folder only, and write two files
there (slotfiles.py). What stands in a folder, and how it is checked before it is used: kvfile.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corral.aio import run_blocking
from corral.errors import CorralError, EngineError
from corral.runner import kvfile
from corral.runner.client import RunnerClient
from corral.runner.kvfile import SavedConversation, Seal
from corral.runner.slots import SlotTable
from corral.runner.spec import SLOT_PART, RunnerSpec

_LOG = logging.getLogger(__name__)
_FEWEST_TOKENS = 64  # a shorter prompt is read again as quickly
_SPARE_DISK_BYTES = 2**30


class ConversationStore:
    """The saved conversations of all models below one folder.

    max_bytes: of all files together; 0 = keep none. engine: what names the engine, for its states are no other's.
    Failures are logged, never raised: a lost save costs a prefill.
    """

    def __init__(self, root: Path, max_bytes: int, engine: str = "") -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._engine = engine

    def folder(self, spec: RunnerSpec) -> Path | None:
        """Where a runner of this spec may save (the handle makes it, 0700); None when nothing is kept."""
        if self._max_bytes <= 0 or spec.embedding or spec.rerank:
            return None
        return self._root / state_key(spec, self._engine)

    async def save(
        self, client: RunnerClient, spec: RunnerSpec, owned: SlotTable | None = None, deadline_s: float = 10.0
    ) -> int:
        """Save every idle slot that was used since the load; how many. Call before the runner is stopped.

        owned: what is in the slots; where keys are separated, whose, and what is nobody's is not saved.
        """
        folder = self.folder(spec)
        if folder is None:
            return 0
        saved = 0
        try:
            seal = await run_blocking(self._seal, folder)
            async with asyncio.timeout(deadline_s):
                slots = {slot["id"]: slot for slot in await client.slots() if _is_worth_saving(slot)}
                by_owner = owned.owned() if owned is not None and owned.separate else [(each, "") for each in slots]
                for slot, owner in by_owner:
                    if slot in slots:
                        saved += await self._save_slot(client, folder / SLOT_PART, slot, seal.of(owner))
        except (CorralError, TimeoutError, OSError) as error:
            _LOG.warning("conversations of %s were not all saved: %r", spec.model_path.name, error)
        finally:
            await run_blocking(kvfile.sweep, self._root, self._max_bytes)
        return saved

    async def _save_slot(self, client: RunnerClient, part: Path, slot: int, seal: Seal) -> bool:
        if (await run_blocking(shutil.disk_usage, part.parent)).free < _SPARE_DISK_BYTES:
            _LOG.warning("no conversation saved: less than %d bytes are free", _SPARE_DISK_BYTES)
            return False
        try:
            await client.save_slot(slot, part.name)
        except EngineError as error:  # an image in the prompt, for one
            _LOG.debug("slot %d was not saved: %s", slot, error)
            return False
        return await run_blocking(kvfile.keep, part, seal)

    async def restore(self, client: RunnerClient, spec: RunnerSpec, slots: int, owned: SlotTable | None = None) -> int:
        """Load the newest conversations into the slots of a runner that has served nothing yet; how many.

        A file that is not as it was written is deleted, and its conversation is read anew. owned: what is told of them;
        where keys are separated only files with an owner are loaded, and else only those without.
        """
        folder = self.folder(spec)
        if folder is None:
            return 0
        restored: list[SavedConversation] = []
        for saved in await self._newest(folder, slots, has_owner=owned is not None and owned.separate):
            path = saved.path
            try:
                await client.restore_slot(len(restored), path.name)
                restored.append(saved)
            except EngineError as error:  # a shorter window, other settings of attention
                _LOG.info("a saved conversation of %s is useless: %s", spec.model_path.name, error)
                await run_blocking(path.unlink, missing_ok=True)
            except CorralError as error:  # it took the runner down: never try this file again
                _LOG.warning("no conversation restored: %s", error)
                await run_blocking(path.unlink, missing_ok=True)
                break
        if owned is not None:
            for slot, saved in reversed(list(enumerate(restored))):  # the newest counts as used last
                owned.put(slot, saved.owner, saved.tokens)
        return len(restored)

    async def _newest(self, folder: Path, count: int, *, has_owner: bool) -> list[SavedConversation]:
        """The newest files, each checked; they are read at the same time, which is what takes long."""
        try:
            seal = await run_blocking(self._seal, folder)
            kept = [saved for saved in await run_blocking(kvfile.saved_in, folder) if bool(saved.owner) == has_owner]
            newest = kept[:count]
            sound = await asyncio.gather(*(run_blocking(kvfile.is_sound, saved.path, seal) for saved in newest))
        except OSError as error:
            _LOG.warning("saved conversations cannot be read: %r", error)
            return []
        for saved, is_good in zip(newest, sound, strict=True):
            if not is_good:
                _LOG.warning("a saved conversation is not as it was written, and is read anew: %s", saved.path.name)
                await run_blocking(saved.path.unlink, missing_ok=True)
        return [saved for saved, is_good in zip(newest, sound, strict=True) if is_good]

    def _seal(self, folder: Path) -> Seal:
        return Seal(kvfile.server_key(self._root / "key"), folder.name)

    def forget(self, spec: RunnerSpec) -> None:
        """Delete what is saved for a way of loading. Blocking."""
        shutil.rmtree(self._root / state_key(spec, self._engine), ignore_errors=True)


def _is_worth_saving(slot: Mapping[str, Any]) -> bool:
    return not slot.get("is_processing") and slot.get("n_prompt_tokens", 0) >= _FEWEST_TOKENS


def state_key(spec: RunnerSpec, engine: str = "") -> str:
    """A name for what a saved state depends on. Blobs are named by digest, so a path stands for its bytes.

    Flash attention is left out, for tuning may change it: the engine refuses a state that was laid out for the other.
    """
    parts = [engine, *(str(path) for path in spec.readable_paths), spec.kv_cache_type or "f16"]
    if spec.translation:
        parts.append(spec.translation)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
