"""What pull and create bring is made ready for the engine before they end, where there is room for that.

Called by native/transfers.py. A load does the same when it finds the files missing, so nothing here fails a transfer:
what cannot be done now is a notice on its last line.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from corral.aio import run_blocking
from corral.core import Notice, TransferStatus
from corral.errors import CorralError, NotEnoughSpace
from corral.runner.enginefiles import EngineFiles
from corral.runner.spec import RunnerSpec
from corral.store.models import Model, ModelStore

log = logging.getLogger(__name__)

STATUS = "translating for the engine"


async def made_ready(
    statuses: AsyncIterator[TransferStatus], load: Callable[[], Model], files: EngineFiles
) -> AsyncGenerator[TransferStatus, None]:
    """A transfer's statuses; before its success, the model that it has brought is translated.

    `load` finds that model, blocking. Closing leaves the transfer done and the translation undone.
    """
    notices: list[Notice] = []
    async with aclosing(cast("AsyncGenerator[TransferStatus, None]", statuses)) as transfer:
        async for status in transfer:
            if status.is_last:
                async with aclosing(_translated(load, files, notices)) as steps:
                    async for step in steps:
                        yield step
            yield replace(status, notices=(*status.notices, *notices))


async def _translated(
    load: Callable[[], Model], files: EngineFiles, notices: list[Notice]
) -> AsyncGenerator[TransferStatus, None]:
    try:
        model = await run_blocking(load)
        notices += model.warnings
        if not model.verdict.runs:
            return
        orders = await run_blocking(files.orders_of, files_of(model))
        async with aclosing(files.make(orders)) as steps:
            async for done, total in steps:
                yield TransferStatus(STATUS, total=total, completed=done)
    except NotEnoughSpace as error:
        name = model.name.short
        text = f"{name} will be translated for the engine when it is loaded, not now: {error}"
        notices.append(Notice("translation_postponed", text, {"model": name}))
    except (CorralError, OSError) as error:
        log.warning("what was transferred was not made ready for the engine: %s", error)


def files_of(model: Model) -> RunnerSpec:
    """The model's files as a load would name them."""
    assert model.weights is not None
    return RunnerSpec(model.weights, model.projector_sources, draft_path=model.draft)


def loader(store: ModelStore, reference: str) -> Callable[[], Model]:
    """How the model of a reference is found once its transfer is over."""
    return lambda: store.load(store.resolve(reference))
