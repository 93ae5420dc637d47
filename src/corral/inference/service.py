"""`Inference`: the one door to the use cases. `server/` calls it, for all three APIs.

The streams of generate and chat yield their first event only when everything that can fail early has not: checks,
load, and the engine's first event. So an error raised by the first `__anext__` still has its HTTP status. Closing a
stream cancels the engine's work and gives the lease back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from corral.config import Settings
from corral.constraint.trial import Trial
from corral.core import ChatRequest, Common, Embeddings, EmbedRequest, Event, GenerateRequest
from corral.inference import chat, embed, generate, scores, tokens
from corral.inference.preparing import leasing
from corral.inference.preparing.again import again
from corral.inference.progress import with_progress
from corral.inference.scores import Ranking
from corral.inference.shared import Shared
from corral.inference.telemetry import Telemetry
from corral.sched import Scheduler
from corral.sched.plan import LaunchPlan
from corral.store.models import ModelStore


class Inference:
    """All model work, on top of a store and a scheduler. Holds no state of its own but counters."""

    def __init__(
        self, store: ModelStore, scheduler: Scheduler, settings: Settings, telemetry: Telemetry | None = None
    ) -> None:
        self.telemetry = telemetry or Telemetry()
        self._shared = Shared(store, scheduler, settings, self.telemetry, Trial())

    def close(self) -> None:
        """End what the use cases keep running. Blocking, for some milliseconds."""
        self._shared.trial.close()

    def generate(self, request: GenerateRequest) -> AsyncIterator[Event]:
        """Complete a prompt: Delta… Done, or Rendered. An empty prompt loads, or unloads when keep_alive is 0.

        Raises (from the first `__anext__` on) InvalidRequest, ModelNotFound, UnsupportedCapability, ContextOverflow,
        QueueFull, NotEnoughMemory and the RunnerErrors.
        """
        if request.parameters.progress:
            return with_progress(lambda emit: generate.generate(self._shared, request, emit))
        return generate.generate(self._shared, request)

    def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer a conversation: Delta… Done, or Rendered. No messages load, or unload when keep_alive is 0.

        Raises as `generate` does.
        """
        if request.parameters.progress:
            return with_progress(lambda emit: chat.chat(self._shared, request, emit))
        return chat.chat(self._shared, request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Vectors of the inputs, in their order; no inputs load the model. Raises as `generate` does."""
        return await again(lambda: embed.embed(self._shared, request))

    async def rerank(self, common: Common, query: str, documents: Sequence[str], top_n: int = 0) -> Ranking:
        """Relevance of documents to a query, best first; top_n 0 = all."""
        return await again(lambda: scores.rerank(self._shared, common, query, documents, top_n))

    async def tokenize(self, common: Common, text: str, *, add_special: bool = False) -> list[int]:
        """The token ids of a text; `add_special` adds what the model puts around every prompt."""
        return await again(lambda: tokens.tokenize(self._shared, common, text, add_special=add_special))

    async def detokenize(self, common: Common, ids: Sequence[int]) -> str:
        """The text of token ids; raises InvalidRequest for ids outside the vocabulary."""
        return await again(lambda: tokens.detokenize(self._shared, common, ids))

    async def count_tokens(self, request: ChatRequest) -> int:
        """How many prompt tokens this chat request would take, without running it."""
        return await again(lambda: chat.count_tokens(self._shared, request))

    async def system_one(self, common: Common, body: dict[str, Any]) -> dict[str, Any]:
        """Hand a System-One request to the engine's own handler; raises EngineError 404 where it has none."""
        return await again(lambda: scores.system_one(self._shared, common, body))

    async def load(self, common: Common) -> None:
        """Have the model ready, whatever it is for; raises as `generate` does."""
        model = await leasing.find_model(self._shared, common, required=True)
        async with leasing.leased(self._shared, await leasing.prepare(self._shared, common, model)):
            pass

    async def plan_load(self, common: Common) -> LaunchPlan:
        """How the model would be loaded for such a request; raises as `generate` does."""
        model = await leasing.find_model(self._shared, common, required=True)
        return (await leasing.prepare(self._shared, common, model)).launch

    async def unload(self, common: Common) -> None:
        """Let the model go as soon as it is idle; no error when it is not loaded."""
        await generate.unload(self._shared, common)
