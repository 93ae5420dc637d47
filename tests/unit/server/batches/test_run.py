"""A batch on its way, with an `ask` of the test's own."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from corral.api.batches import BatchObject
from corral.config import Settings
from corral.server.openai.batches.asking import Answered
from corral.server.openai.batches.run import BatchRun
from corral.server.openai.batches.store import BatchStore
from corral.server.openai.encoding import new_id
from corral.server.openai.files.store import files_of

CHAT = "/v1/chat/completions"


async def test_more_lines_are_under_way_as_soon_as_there_is_room_for_more(tmp_path: Path) -> None:
    rows = [{"custom_id": str(number), "method": "POST", "url": CHAT, "body": {}} for number in range(30)]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = BatchStore(tmp_path / "batches", 3600)
    batch = BatchObject(
        id=new_id("batch_"),
        endpoint=CHAT,
        input_file_id="file-1",
        completion_window="24h",
        created_at=int(time.time()),
        expires_at=int(time.time()) + 3600,
    )
    store.add(batch, source)
    room, asking, most = 2, 0, 0
    reached = {2: asyncio.Event(), 5: asyncio.Event()}

    async def ask(endpoint: str, body: dict[str, Any], given_way: int) -> Answered:
        """Answers when as many lines are asked as there was room for."""
        nonlocal room, asking, most
        asking += 1
        most = max(most, asking)
        awaited = reached[room]
        if asking == room:
            reached[room].set()
            room = 5
        await awaited.wait()
        asking -= 1
        return Answered(200, {})

    run = BatchRun(batch, store, files_of(Settings(home=tmp_path), ""), ask, lambda: room)
    async with asyncio.timeout(20):
        await run.run()
    assert batch.status == "completed"
    assert most == 5
