"""`NodeRunners`: what an agent does with its server's orders: runners started, watched and stopped on this node.

One task per runner, from its files to its end; the last thing that is told of it is Ended, when it is reaped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import aclosing

from corral.aio import run_blocking
from corral.cluster.listener import Listener
from corral.cluster.nodeblobs import NodeBlobs
from corral.cluster.relay import relay_to
from corral.cluster.wire import Condemn, Create, End, Ended, Lost, Making, Problem, Ready, Told, problem_of
from corral.errors import RunnerDied, RunnerMisbehaved
from corral.runner.handle import RunnerHandle, State
from corral.runner.launch import LocalLauncher
from corral.runner.spec import RunnerSpec

log = logging.getLogger(__name__)
_SAVE_DEADLINE_S = 15.0
_AT_MOST = 256  # runners


class NodeRunners:
    """keeps: conversations survive their runner; not where keys are separated: only the server knows whose they are.

    tell: sends to the server; neither waits nor raises.
    """

    def __init__(
        self,
        launcher: LocalLauncher,
        blobs: NodeBlobs,
        listener: Listener,
        tell: Callable[[Told], None],
        *,
        keeps: bool,
    ) -> None:
        self._launcher = launcher
        self._blobs = blobs
        self._listener = listener
        self._tell = tell
        self._keeps = keeps
        self._lives: dict[int, _Life] = {}

    def __len__(self) -> int:
        return len(self._lives)

    def create(self, order: Create) -> None:
        """Begin a runner's life."""
        if len(self._lives) >= _AT_MOST or order.id in self._lives:
            self._tell(Ended(order.id, Problem("RunnerFailedToStart", ("the node takes no more runners", ()))))
            return
        life = _Life()
        life.task = asyncio.create_task(self._live(order, life), name=f"runner {order.id}")
        self._lives[order.id] = life
        life.task.add_done_callback(lambda _: self._lives.pop(order.id, None))

    def end(self, order: End) -> None:
        """Stop it; Ended follows. One that is not there has told so already."""
        life = self._lives.get(order.id)
        if life is not None and not life.leaving:
            life.leaving = True
            life.grace_s = order.grace_s
            assert life.task is not None
            life.task.cancel()

    def condemn(self, order: Condemn) -> None:
        """Kill it."""
        life = self._lives.get(order.id)
        if life is not None and life.handle is not None:
            life.handle.client.connections.misbehaved(RunnerMisbehaved(order.what, order.text))

    async def close(self) -> None:
        """Kill all of them: their server is gone, and nobody wants what they have read."""
        lives = list(self._lives.values())
        for life in lives:
            life.abandoned = True
            if life.task is not None and not life.leaving:
                life.task.cancel()
        await asyncio.gather(*(life.task for life in lives if life.task is not None), return_exceptions=True)

    async def _live(self, order: Create, life: _Life) -> None:
        ended = Ended(order.id, problem_of(RunnerDied()))
        try:
            ended = await self._run(order, life)
        except asyncio.CancelledError:
            pass  # asked to end; nobody waits for this task but close()
        except Exception as error:
            log.info("runner %d did not start", order.id, exc_info=True)
            ended = Ended(order.id, problem_of(error))
        finally:
            ended = await self._leave(order.id, life, ended)
            self._tell(ended)

    async def _run(self, order: Create, life: _Life) -> Ended:
        async with aclosing(self._blobs.fetch(order.needs)) as steps:
            async for done, total in steps:
                self._tell(Making(order.id, done, total))
        life.files = contextlib.ExitStack()
        spec = await run_blocking(life.files.enter_context, self._blobs.used(order.spec))
        handle = life.handle = self._launcher.create(spec, order.planned)
        handle.client.on_grammar_lost = lambda why: self._tell(Lost(order.id, why))
        await handle.start(lambda done, total: self._tell(Making(order.id, done, total)))
        if self._keeps:
            await self._launcher.conversations.restore(handle.client, spec, handle.info.slots)
        life.spec = spec
        life.token = self._listener.admit(relay_to(handle))
        self._tell(Ready(order.id, handle.spec, handle.info, handle.pid or 0, life.token))
        await handle.closed.wait()
        return Ended(order.id, problem_of(handle.failure), handle.exit_code, handle.last_lines)

    async def _leave(self, runner_id: int, life: _Life, ended: Ended) -> Ended:
        self._listener.forget(life.token)
        handle = life.handle
        try:
            if handle is None:
                return ended
            if life.spec is not None and self._keeps and not life.abandoned and handle.state is State.READY:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SAVE_DEADLINE_S):
                        await self._launcher.conversations.save(handle.client, life.spec)
            await handle.stop(0.0 if life.abandoned else life.grace_s)
            if life.leaving:
                return Ended(runner_id, problem_of(handle.failure), handle.exit_code, handle.last_lines)
            return ended
        except Exception:
            log.exception("runner %d: stopping failed", runner_id)
            return ended
        finally:
            if life.files is not None:
                await run_blocking(life.files.close)


class _Life:
    """What is kept of one runner."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.handle: RunnerHandle | None = None
        self.spec: RunnerSpec | None = None  # once it serves
        self.files: contextlib.ExitStack | None = None
        self.token = ""
        self.grace_s = 5.0
        self.leaving = False
        self.abandoned = False
