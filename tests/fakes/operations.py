"""A process that works on a store and is made to be killed: `python -m tests.fakes.operations`, driven by stdin.

Each line is a JSON object: `operation` (pull, push, create, copy, delete, translate) and its arguments. The work is
done by a fork, which says `begin` first; this process says the fork's `pid`, and its exit status as `end` when it is
gone. So many kills cost one start of Python.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from corral.config import Settings
from corral.create.flow import Creator
from corral.create.request import CreateRequest
from corral.registry.service import Registry
from corral.runner.enginefiles import EngineFiles
from corral.server.translation import files_of
from corral.store import ModelStore


def main() -> None:
    """Until stdin ends. A fork that is gone is reaped only before the next one: its number stays its own so long."""
    pid = 0
    for line in sys.stdin:
        if pid:
            os.waitpid(pid, 0)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _say(begin=True)
                _work(**json.loads(line))
                status = 0
            finally:
                os._exit(status)
        _say(pid=pid)
        gone = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert gone is not None
        _say(end=gone.si_status if gone.si_code == os.CLD_EXITED else -gone.si_status)


def _say(**facts: Any) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def _work(operation: str, models: str, name: str, target: str = "", gguf: str = "") -> None:
    store = ModelStore(Path(models))
    if operation == "copy":
        store.copy(store.resolve(name), store.resolve(target))
    elif operation == "delete":
        store.delete(store.resolve(name))
    elif operation == "translate":
        asyncio.run(_translate(store, name))
    else:
        asyncio.run(_transfer(operation, store, name, gguf))


async def _translate(store: ModelStore, name: str) -> None:
    model = store.load(store.resolve(name))
    files = EngineFiles(store)
    async for _ in files.make(files.orders_of(files_of(model))):
        pass


async def _transfer(operation: str, store: ModelStore, name: str, gguf: str) -> None:
    registry = Registry(store, Settings(home=store.root.parent / "home", models=store.root))
    if operation == "create":
        digest, _ = store.blobs.put(Path(gguf).read_bytes())
        request = CreateRequest(
            store.resolve(name),
            files={"m.gguf": str(digest)},
            template=f"{name} {{{{ .Prompt }}}}",
            system=name,
            parameters={"top_k": 7},
        )
        statuses = Creator(store, registry.pull).create(request)
    elif operation == "pull":
        statuses = registry.pull(name, insecure=True)
    else:
        statuses = registry.push(name, insecure=True)
    async for _ in statuses:
        pass
    await registry.close()


if __name__ == "__main__":
    main()
