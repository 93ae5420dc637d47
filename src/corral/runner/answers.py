"""What an engine may answer: the shape and the size of each answer. Used by client.py.

An engine that has been taken over by a model file answers what it likes, and the server must neither grow, stop nor
stumble over it. So every answer is read with a bound that follows from what was asked, and decoded into a shape that
has the fields which Corral reads and no others; whatever does not fit raises RunnerMisbehaved, which ends the runner.

Source of the shapes: llama.cpp tools/server/server-task.cpp, 2026-10; lenient where releases differ.
"""

from __future__ import annotations

import base64
import binascii
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from corral.errors import RunnerMisbehaved

KIB, MIB = 2**10, 2**20
MAX_ERROR_BYTES = 64 * KIB
MAX_SMALL_BYTES = 64 * KIB  # an answer that says little more than "done"
MAX_SLOTS_BYTES = 4 * MIB
MAX_PROPS_BYTES = 8 * MIB  # chat templates are among them
_LONGEST_ERROR = 4 * KIB
_LONGEST_VECTOR = 2**17  # values
_MOST_TOKENS = 2**20  # of an answer whose request does not say
# of a stream, for each token that was asked for: an event's frame, its text, and each probability with its bytes
_FRAME_BYTES, _TEXT_BYTES, _PROBABILITY_BYTES = 512, 300, KIB
_SPARE_BYTES = MIB
_SPARE_TEXT_BYTES = 64 * KIB
_SPARE_ENTRIES = 64

_NO_IDS, _BLANKS = b'{"tokens":[]}', b" \t\r\n"

Count = Annotated[int, Meta(ge=0, le=2**40)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Milliseconds = Annotated[float, Meta(ge=-1e15, le=1e15)]
Word = Annotated[str, Meta(max_length=4096)]


class _Progress(TypedDict):
    total: Count
    cache: Count
    processed: Count


class _Timings(TypedDict):
    prompt_n: Count
    prompt_ms: Milliseconds
    predicted_n: Count
    predicted_ms: Milliseconds
    cache_n: NotRequired[Count]
    draft_n: NotRequired[Count]  # tokens that were drafted ahead, and checked; not there when none were
    draft_n_accepted: NotRequired[Count]


class _TopProbability(TypedDict):
    id: NotRequired[Count]  # the token's number: what tells tokens of equal text apart
    token: Word
    logprob: float | None


class _Probability(_TopProbability):
    top_logprobs: NotRequired[list[_TopProbability]]


class _CompletionEvent(TypedDict, total=False):
    content: str
    stop: bool
    stop_type: Word
    stopping_word: str
    truncated: bool
    tokens_evaluated: Count
    tokens_predicted: Count
    completion_probabilities: list[_Probability]
    prompt_progress: _Progress
    timings: _Timings
    error: Any


class _Function(TypedDict, total=False):
    name: str | None
    arguments: str | None


class _CallPiece(TypedDict, total=False):
    index: Annotated[int, Meta(ge=0, le=4096)]
    id: Word | None
    function: _Function | None


class _Delta(TypedDict, total=False):
    role: Word | None
    content: str | None
    reasoning_content: str | None
    tool_calls: Annotated[list[_CallPiece], Meta(max_length=256)] | None


class _Logprobs(TypedDict, total=False):
    content: list[_Probability] | None


class _Choice(TypedDict, total=False):
    finish_reason: Word | None
    delta: _Delta | None
    logprobs: _Logprobs | None


class _Verbose(TypedDict, total=False):
    stopping_word: str


_ChatChunk = TypedDict(  # in this form because a class would rename a field of two underscores
    "_ChatChunk",
    {
        "choices": Annotated[list[_Choice], Meta(max_length=8)],
        "prompt_progress": _Progress,
        "timings": _Timings,
        "__verbose": _Verbose,
        "error": Any,
    },
    total=False,
)


class _Slot(TypedDict):
    id: Annotated[int, Meta(ge=0, le=4096)]
    is_processing: bool
    id_task: NotRequired[int | None]
    n_prompt_tokens: NotRequired[Count]
    n_prompt_tokens_processed: NotRequired[Count]
    next_token: NotRequired[msgspec.Raw]  # an object or a list of them, by release; only compared


class _Generation(TypedDict, total=False):
    n_ctx: Annotated[int, Meta(ge=0, le=2**31 - 1)]


class _Props(TypedDict, total=False):
    default_generation_settings: _Generation
    total_slots: Annotated[int, Meta(ge=0, le=4096)]
    build_info: Word
    media_marker: Word


class _Tokens(TypedDict):
    tokens: list[TokenId]


class _Content(TypedDict):
    content: str


class _Prompt(TypedDict):
    prompt: str


class _Usage(TypedDict):
    prompt_tokens: Count


class _Vector(TypedDict):
    index: Count
    embedding: str


class _Embeddings(TypedDict):
    data: list[_Vector]
    usage: _Usage


class _Score(TypedDict):
    index: Count
    relevance_score: float


class _Ranking(TypedDict):
    results: list[_Score]
    usage: _Usage


Decode = Callable[[bytes], Any]


def _decoder(shape: Any) -> Decode:
    decode = msgspec.json.Decoder(shape).decode

    def checked(data: bytes) -> Any:
        try:
            return decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RunnerMisbehaved(str(error)) from error

    return checked


completion_event = _decoder(_CompletionEvent)
chat_chunk = _decoder(_ChatChunk)
slots = _decoder(Annotated[list[_Slot], Meta(max_length=4096)])
props = _decoder(_Props)
tokens = _decoder(_Tokens)
content = _decoder(_Content)
prompt = _decoder(_Prompt)
any_object = _decoder(dict[str, Any])
_any = _decoder(Any)
_embeddings = _decoder(_Embeddings)
_ranking = _decoder(_Ranking)


def vectors(count: int) -> Decode:
    """Of so many inputs: ([vector of each], tokens in all)."""

    def decode(data: bytes) -> tuple[list[list[float]], int]:
        answer = _embeddings(data)
        rows = sorted(answer["data"], key=lambda row: row["index"])
        if [row["index"] for row in rows] != list(range(count)):
            raise RunnerMisbehaved(f"{len(rows)} vectors for {count} inputs, or not one for each")
        values = [_floats(row["embedding"]) for row in rows]
        if len({len(vector) for vector in values}) > 1:
            raise RunnerMisbehaved("vectors of different lengths")
        return values, answer["usage"]["prompt_tokens"]

    return decode


def _floats(text: str) -> list[float]:
    values = array("f")
    try:
        values.frombytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise RunnerMisbehaved(f"a vector that is none: {error}") from error
    if len(values) > _LONGEST_VECTOR:
        raise RunnerMisbehaved(f"a vector of {len(values)} values")
    return values.tolist()


def scores(count: int) -> Decode:
    """Of so many documents: ([(index, score)], tokens in all)."""

    def decode(data: bytes) -> tuple[list[tuple[int, float]], int]:
        answer = _ranking(data)
        pairs = [(row["index"], row["relevance_score"]) for row in answer["results"]]
        if sorted(index for index, _ in pairs) != list(range(count)):
            raise RunnerMisbehaved(f"{len(pairs)} scores for {count} documents, or not one for each")
        return pairs, answer["usage"]["prompt_tokens"]

    return decode


def token_count(data: bytes) -> int:
    """How many ids an answer of /tokenize has; raises RunnerMisbehaved."""
    digits = data.translate(None, _BLANKS)
    commas = digits.translate(None, b"0123456789")
    separators = len(commas) - len(_NO_IDS)
    if commas != _NO_IDS[:-2] + b"," * separators + _NO_IDS[-2:]:
        raise RunnerMisbehaved("ids of tokens that are none")
    return 0 if digits == _NO_IDS else separators + 1


def max_token_bytes(text_bytes: int) -> int:
    """Of the ids of a text: no token is shorter than a byte, and an id takes at most ten digits and a comma."""
    return 16 * text_bytes + MAX_SMALL_BYTES


def max_text_bytes(token_count: int) -> int:
    """Of the text of tokens, escaped as JSON."""
    return 256 * token_count + MIB


def max_prompt_bytes(sent_bytes: int) -> int:
    """Of what a chat template makes of a conversation; some write parts of it twice."""
    return 8 * sent_bytes + MIB


def max_vector_bytes(count: int) -> int:
    """Of so many vectors in base64."""
    return count * (_LONGEST_VECTOR * 16 // 3 + KIB) + MAX_SMALL_BYTES


def max_score_bytes(count: int) -> int:
    """Of so many scores; other fields of a row included."""
    return count * KIB + MAX_SMALL_BYTES


class StreamBudget:
    """What one stream may bring: bytes, text and probabilities, by what its request asked for."""

    def __init__(self, body: Mapping[str, Any], sent_bytes: int) -> None:
        asked = next((body[name] for name in ("n_predict", "max_tokens") if body.get(name, -1) >= 0), _MOST_TOKENS)
        made = asked + _SPARE_ENTRIES
        alternatives = 1 + max(int(body.get("n_probs") or 0), int(body.get("top_logprobs") or 0))
        per_token = _FRAME_BYTES + _TEXT_BYTES + (_PROBABILITY_BYTES * alternatives if alternatives > 1 else 0)
        # the last event repeats the prompt; a report on its reading comes after every step
        self._bytes = made * per_token + 16 * sent_bytes + _SPARE_BYTES
        self._text_bytes = made * _TEXT_BYTES + _SPARE_TEXT_BYTES
        self._entries = made
        self._alternatives = alternatives

    def take(self, size_bytes: int) -> None:
        """So many bytes arrived. Raises RunnerMisbehaved when that is too much."""
        self._bytes -= size_bytes
        if self._bytes < 0:
            raise RunnerMisbehaved("far more than was asked for")

    def take_text(self, *texts: str | None) -> None:
        """Text of the model's answer; raises as `take`."""
        for text in texts:
            if text:
                self._text_bytes -= len(text)
        if self._text_bytes < 0:
            raise RunnerMisbehaved("more text than so many tokens can have")

    def take_probabilities(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Probabilities of generated tokens; raises as `take`."""
        self._entries -= len(entries)
        if self._entries < 0 or any(len(entry.get("top_logprobs", ())) > self._alternatives for entry in entries):
            raise RunnerMisbehaved("more probabilities than tokens were asked for")


def error_fields(status: int, data: bytes) -> tuple[int, str, str]:
    """(status, message, kind) of a refusal: the engine's own words, out of whatever it wrapped them in."""
    try:
        answer = _any(data)
    except RunnerMisbehaved:
        return status, data.decode(errors="replace").strip()[:_LONGEST_ERROR] or f"status {status}", ""
    return error_of(status, answer.get("error", answer) if isinstance(answer, dict) else answer)


def error_of(status: int, error: Any) -> tuple[int, str, str]:
    """The same for what stands under `error`: `{"code", "message", "type"}`, or a text."""
    if not isinstance(error, dict):
        return status, str(error)[:_LONGEST_ERROR], ""
    code = error.get("code")
    inner = code if isinstance(code, int) and 400 <= code < 600 and status == 500 else status
    return inner, str(error.get("message", "")).strip()[:_LONGEST_ERROR], str(error.get("type", ""))[:100]
