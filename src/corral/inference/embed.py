"""Embeddings: texts to vectors. Called by service.py.

An input may have `min(num_ctx, trained context)` tokens, less one for each special token that the engine will add.
Longer ones are cut with a notice, or refused. Inputs go to the engine in packs, several packs at once.
Source of rules and texts: ollama server/routes.go EmbedHandler, llm/llama_server.go legacyEmbeddingsWereRaw, 2026-08.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from corral.aio import run_blocking
from corral.core import Capability, Embeddings, EmbedRequest, Metrics, Notice
from corral.errors import EngineError, InvalidRequest, UnsupportedCapability
from corral.gguf import GGUFHeader
from corral.inference.preparing.leasing import Prepared, find_model, leased, prepare
from corral.inference.running.longtext import first_tokens
from corral.inference.shared import Shared
from corral.inference.tokens import vocabulary_size
from corral.sched.request import Lease
from corral.store.models import Model

T = TypeVar("T")
R = TypeVar("R")

_PACK = 32  # inputs of one call to the engine
_INLINE_VALUES = 100_000  # normalising so many takes about a millisecond
_TOO_LONG = "the input length exceeds the context length"
_SIZE_WORDS = ("too large", "context size", "context length", "physical batch size")
_SMALLEST_NORM = np.float32(1e-12)


async def embed(shared: Shared, request: EmbedRequest) -> Embeddings:
    """Vectors of all inputs, in order; no inputs load the model.

    Raises InvalidRequest for inputs that are too long and may not be cut, and UnsupportedCapability.
    """
    start = time.perf_counter_ns()
    model = await find_model(shared, request.common, required=request.legacy, pull_hint=True)
    if request.inputs and Capability.EMBEDDING not in model.capabilities:
        name = request.common.model
        raise UnsupportedCapability(name, "embeddings", f'"{name}" does not support embeddings')
    wanted = max(1, -(-len(request.inputs) // _PACK))
    prepared = await prepare(shared, request.common, model, slots=wanted)
    async with leased(shared, prepared) as lease:
        loaded = time.perf_counter_ns()
        if not request.inputs:
            return Embeddings([])
        batch = _Batch(lease, request, prepared)
        vectors, tokens = await batch.run()
    size = len(vectors[0])
    if not request.legacy:
        vectors = await _finished(vectors, request.dimensions)
    total = time.perf_counter_ns() - start
    notices = (*prepared.notices, *lease.notices, *batch.notices(), *_size_notices(request.dimensions, size))
    metrics = Metrics(total_duration_ns=total, load_duration_ns=loaded - start, prompt_tokens=tokens)
    shared.telemetry.finished(model.name.short, "embed", "stop", metrics, notices)
    return Embeddings(vectors, tokens, total, loaded - start, notices)


@dataclass
class _Batch:
    """The inputs of one request on their way through the engine."""

    lease: Lease
    request: EmbedRequest
    prepared: Prepared

    def __post_init__(self) -> None:
        self._cut: dict[int, tuple[int, int]] = {}  # input index -> (tokens, tokens kept)
        self._foreign: dict[int, int] = {}  # input index -> ids outside the vocabulary
        model = self.prepared.model
        trained = model.context_length
        requested = self.prepared.choices.requested_window
        self._window = min(requested, trained) if trained > 0 else requested
        self._specials = _specials(model.header)
        self._normalize = -1 if self.request.legacy and was_raw(model) else None

    async def run(self) -> tuple[list[list[float]], int]:
        """The engine's vectors, and how many tokens it read."""
        inputs = list(enumerate(self.request.inputs))
        packs = [inputs[at : at + _PACK] for at in range(0, len(inputs), _PACK)]
        answers = await _at_once(self._pack, packs, self.lease.slots + 1)
        pairs = [pair for answer in answers for pair in answer]
        return [vector for vector, _ in pairs], sum(tokens for _, tokens in pairs)

    def notices(self) -> tuple[Notice, ...]:
        """What was cut or left out."""
        return (*self._cut_notices(), *self._foreign_notices())

    def _foreign_notices(self) -> tuple[Notice, ...]:
        if not self._foreign:
            return ()
        count = sum(self._foreign.values())
        message = f"{count} token ids are not in this model's vocabulary and were left out: send texts instead"
        return (Notice("tokens_unknown", message, {"inputs": sorted(self._foreign)[:100], "tokens": count}),)

    def _cut_notices(self) -> tuple[Notice, ...]:
        if not self._cut:
            return ()
        indices = sorted(self._cut)
        longest = max(tokens for tokens, _ in self._cut.values())
        message = f"{len(indices)} of {len(self.request.inputs)} inputs were cut to fit the context window"
        facts = {"inputs": indices[:100], "longest_tokens": longest, "kept_tokens": self._cut[indices[0]][1]}
        return (Notice("input_truncated", message, facts),)

    async def _pack(self, pack: Sequence[tuple[int, str | tuple[int, ...]]]) -> list[tuple[list[float], int]]:
        fitting = [await self._fit(index, text) for index, text in pack]
        try:
            return await self.lease.runner.embeddings(fitting, normalize=self._normalize)
        except EngineError as error:
            if not _is_about_size(error):
                raise
            if not self.request.truncate:
                raise InvalidRequest(_TOO_LONG, field="input") from error
        shorter = [await self._cut_to_batch(index, text) for (index, _), text in zip(pack, fitting, strict=True)]
        if shorter == fitting:
            raise InvalidRequest("input exceeds maximum context length and cannot be truncated further", field="input")
        return await self.lease.runner.embeddings(shorter, normalize=self._normalize)

    async def _fit(self, index: int, given: str | tuple[int, ...]) -> str:
        """The input as text, cut to the limit when that is allowed."""
        text = given if isinstance(given, str) else await self._decoded(index, given)
        if len(text.encode()) <= self._window - 2:
            return text  # every token has at least a byte
        tokens, count = await first_tokens(self.lease, text, self._window)
        first, last = self._specials
        limit = self._window - (not tokens or tokens[0] != first) - (not tokens or tokens[-1] != last)
        if len(tokens) <= limit:
            return text
        if not self.request.truncate:
            raise InvalidRequest(_TOO_LONG, field="input")
        if limit <= 0:
            raise InvalidRequest("input after truncation exceeds maximum context length", field="input")
        return await self._keep(index, tokens, limit, count)

    async def _decoded(self, index: int, ids: tuple[int, ...]) -> str:
        """Token ids as text, so that the engine adds the special tokens a vector needs.

        Clients that count with another model's tokenizer (LangChain) send ids that cannot be this model's: those are
        left out with a notice. Raises InvalidRequest when none is left.
        """
        first, last = self._specials
        inner = ids[1:] if ids[:1] == (first,) else ids
        inner = inner[:-1] if inner[-1:] == (last,) else inner
        size = vocabulary_size(self.prepared.model)
        known = [token for token in inner if 0 <= token < size]
        if len(known) < len(inner):
            self._foreign[index] = len(inner) - len(known)
        if inner and not known:
            raise InvalidRequest(f"input[{index}]: no token of this model, whose vocabulary has {size}", field="input")
        return await self.lease.runner.detokenize(known)

    async def _cut_to_batch(self, index: int, text: str) -> str:
        """The second try: what the engine can take in one step."""
        limit = self.lease.spec.n_batch
        tokens, count = await first_tokens(self.lease, text, limit, add_special=True)
        if len(tokens) <= limit:
            return text
        return await self._keep(index, tokens, limit - 2, count)

    async def _keep(self, index: int, tokens: list[int], limit: int, count: int) -> str:
        kept = tokens[: max(1, limit)]
        self._cut[index] = (int(count), len(kept))
        return await self.lease.runner.detokenize(kept)


def _size_notices(dimensions: int, size: int) -> tuple[Notice, ...]:
    """What is told of a number of dimensions that the vectors, of `size`, cannot be cut to."""
    if 0 <= dimensions <= size:
        return ()
    why = f"dimensions {dimensions} was ignored: the model's vectors have {size}, and can only be cut to 1 to {size}"
    return (Notice("dimensions_ignored", why, {"dimensions": dimensions, "available": size}),)


def was_raw(model: Model) -> bool:
    """Whether /api/embeddings always gave this architecture's vectors without normalising them."""
    header = model.header
    if header is None:
        return False
    normalizes = header.get("normalize_embeddings")
    if header.architecture in {"nomic-bert", "nomic-bert-moe"}:
        return normalizes is not True
    tokenizer = header.text("tokenizer.ggml.model")
    return header.architecture == "bert" and (tokenizer != "bert" or normalizes is False)


def normalise(vectors: Sequence[Sequence[float]], dimensions: int) -> list[list[float]]:
    """Each vector divided by its length, in 32 bits; the first `dimensions` values of it when 0 < dimensions < n_embd.

    Raises InvalidRequest when a value is no number.
    """
    values: NDArray[np.float32] = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InvalidRequest("embedding contains NaN or Inf values")
    values = _unit(values)
    if 0 < dimensions < values.shape[1]:
        values = _unit(values[:, :dimensions])
    return values.tolist()  # type: ignore[no-any-return]


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # Ollama adds in float32, one after the other, and multiplies by the reciprocal: the last bit depends on it.
    sums = np.cumsum(values * values, axis=1, dtype=np.float32)[:, -1:]
    scale = (1.0 / np.maximum(np.sqrt(sums.astype(np.float64)), _SMALLEST_NORM)).astype(np.float32)
    return (values * scale).astype(np.float32)


async def _finished(vectors: list[list[float]], dimensions: int) -> list[list[float]]:
    if len(vectors) * len(vectors[0]) > _INLINE_VALUES:
        return await run_blocking(normalise, vectors, dimensions)
    return normalise(vectors, dimensions)


def _specials(header: GGUFHeader | None) -> tuple[int, int]:
    """Ids of the tokens that the engine puts before and after a text; -1 when the header does not say."""
    if header is None:
        return -1, -1
    found = [header.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "cls", "eos", "seperator")]
    bos, cls, eos, sep = (value if isinstance(value, int) else -1 for value in found)
    return (bos if bos >= 0 else cls), (eos if eos >= 0 else sep)


def _is_about_size(error: EngineError) -> bool:
    return error.status in {400, 500} and any(words in error.message.lower() for words in _SIZE_WORDS)


async def _at_once(work: Callable[[T], Awaitable[R]], items: Sequence[T], most: int) -> list[R]:
    """`work` on every item, at most so many at once, results in order; the first failure cancels the rest."""
    if len(items) == 1:
        return [await work(items[0])]
    turn = asyncio.Semaphore(most)

    async def one(item: T) -> R:
        async with turn:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
