"""The nouns that every layer shares: messages, tools, constraints, the event stream of a generation. No I/O, no JSON.

A use case (`inference/`) takes one of the request nouns and yields `Event`s: any number of `Progress` and `Delta`,
then exactly one `Done`; errors are raised. The API layers encode that stream, each in its own wire form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal


class Capability(StrEnum):
    """What a model can do; the values are Ollama's words, in the order Ollama lists them."""

    COMPLETION = "completion"
    TOOLS = "tools"
    INSERT = "insert"
    VISION = "vision"
    EMBEDDING = "embedding"
    THINKING = "thinking"
    IMAGE = "image"
    AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the caller must be told: an entry of `warnings`, `{"code", "message", **facts}` on the wire."""

    code: str
    message: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model made, or made earlier; `arguments` keeps the order the model wrote."""

    name: str
    arguments: dict[str, Any]
    id: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call; `parameters` is its JSON schema as the client sent it, whole."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    type: str = "function"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which calls are allowed: auto, none, required, or one by name."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; role is lower-case; images are raw file bytes.

    places: where in `content` each image stands, as offsets, never falling; empty = the client did not say.
    """

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
    places: tuple[int, ...] = ()


def characters_of(messages: Iterable[Message]) -> int:
    """How long the texts of a conversation are."""
    return sum(len(message.content) + len(message.thinking) for message in messages)


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the answer's text must match. `value`: None for json; a schema (dict/bool); GBNF text; a regex; choices.

    `unknown` is a `format` that is none of them: check_constraint refuses it, once the model is known to exist.
    """

    kind: Literal["json", "schema", "grammar", "regex", "choice", "unknown"]
    value: Any = None


Think = bool | Literal["low", "medium", "high", "max"] | int | None  # an int is a budget of thinking tokens


@dataclass(frozen=True, slots=True)
class TokenProb:
    """A token and the natural log of its probability."""

    token: str
    logprob: float
    bytes: bytes = b""


@dataclass(frozen=True, slots=True)
class TokenLogprob(TokenProb):
    """A generated token with its most probable alternatives, best first."""

    top: tuple[TokenProb, ...] = ()


class AtLeast(int):
    """A count that may be higher: what counting further would have cost was saved.

    It says so where it is printed, but for the format `d`, which is for texts that programs read numbers from.
    """

    def __str__(self) -> str:
        return f"at least {int(self)}"

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec else str(self)

    def __add__(self, other: int) -> AtLeast:
        return AtLeast(int(self) + int(other))

    def __sub__(self, other: int) -> AtLeast:
        return AtLeast(int(self) - int(other))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, for fairness and for GET /api/requests: an API key or address, the route, a priority.

    owner: whose key it is, which bounds what the request finds and what finds it; "" = no keys are asked for.
    given_way: how often this line of a batch has ended for others already; left: lines of its batch without a result.
    """

    client: str = ""
    route: str = ""
    priority: Literal["interactive", "background", "batch"] = "interactive"
    owner: str = ""
    given_way: int = 0
    left: int = 0

    @property
    def gives_way(self) -> bool:
        """Whether it is a line of a batch, which waits, and ends, for everybody else."""
        return self.priority == "batch"


@dataclass(frozen=True, slots=True)
class Common:
    """What every model request carries, whatever its API."""

    model: str  # as the client sent it
    options: dict[str, Any] = field(default_factory=dict)  # Ollama's option names, unvalidated
    keep_alive_s: float | None = None  # math.inf = for ever
    caller: Caller = field(default_factory=Caller)
    strict: bool = False  # unknown or unsupported parameters are an error instead of a notice
    notices: tuple[Notice, ...] = ()  # what decoding already has to tell


@dataclass(frozen=True, slots=True)
class GenerationParameters:
    """How to generate; shared by generate and chat."""

    constraint: Constraint | None = None
    think: Think = None
    truncate: bool = True
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    logit_bias: dict[int, float] = field(default_factory=dict)
    progress: bool = False  # emit Progress events while the request waits and its prompt is read
    prompt_progress: bool = False  # those of the prompt only
    call_pieces: bool = False  # emit pieces of calls while the model writes them
    cache: bool = False  # report what of the prompt had been read before
    whole: bool = False  # nobody sees a part of the answer before its end
    render_only: bool = False


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A completion of one prompt; `template` is a Go template that overrides the model's."""

    common: Common
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: tuple[int, ...] | None = None
    raw: bool = False
    images: tuple[bytes, ...] = ()
    parameters: GenerationParameters = field(default_factory=GenerationParameters)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """The next turn of a conversation.

    unsupported_think: what thinking is where the model cannot: an error, left out and told, or left out without a word,
    since nobody wanted it in particular.
    """

    common: Common
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    generic_tools: bool = False  # prompted, grammar-bound tools for a model that has none
    keeps_all: bool = False  # of an agent, which compacts by itself: nothing is dropped, a full window is an error
    unsupported_think: Literal["error", "told", "quiet"] = "error"
    parameters: GenerationParameters = field(default_factory=GenerationParameters)


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Vectors for texts; dimensions 0 = all. `legacy`: /api/embeddings (no truncation, engine's own normalising)."""

    common: Common
    inputs: tuple[str | tuple[int, ...], ...] = ()
    truncate: bool = True
    dimensions: int = 0
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a call that is being written, for requests that want them; joined they are its arguments as JSON.

    The first piece brings the name. The last one is `whole`, and the call itself comes among `tool_calls`; or it is
    `broken`: there is no such call, what the model wrote of it is in the pieces, and they never join to JSON.
    """

    index: int
    id: str
    name: str = ""
    arguments: str = ""
    end: Literal["", "whole", "broken"] = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer, as soon as it is known. `call_pieces` come before `tool_calls`."""

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    call_pieces: tuple[CallPiece, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Before the first token: waiting (`position` from 1, `wait_s` estimated), the model's file being translated for
    the engine (`processed` of `total` bytes), or reading the prompt (tokens).
    """

    stage: Literal["queued", "translating", "loading", "prompt"]
    position: int = 0
    wait_s: float = 0.0
    processed: int = 0
    total: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Metrics:
    """A run's counts and times; prompt_tokens include cached_tokens.

    drafted_tokens: guessed ahead and checked; accepted_tokens: those of them that became part of the answer.
    """

    total_duration_ns: int = 0
    load_duration_ns: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_duration_ns: int = 0
    eval_tokens: int = 0
    eval_duration_ns: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class CacheReport:
    """How much of a prompt had been read before. before, after: the text on both sides of where reading began.

    source: where that was: in the request's own "slot", "copied" from another one, or "saved" by an earlier runner.
    """

    prompt_tokens: int
    cached_tokens: int
    source: str
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer. `reason`: stop, length, load, unload. `stop_sequence`: which one matched, if one did.

    window_full: a length that nobody asked for; prompt and answer reached the context window. cache: where asked for.
    """

    reason: str
    metrics: Metrics | None = None
    context: tuple[int, ...] | None = None
    notices: tuple[Notice, ...] = ()
    stop_sequence: str | None = None
    thinking_tokens: int = 0
    window_full: bool = False
    cache: CacheReport | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """The answer to a render-only request: the prompt as the engine would get it."""

    template: str
    image_count: int = 0


Event = Delta | Progress | Done | Rendered


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors `[n_inputs][n_embd]`, in the order of the inputs."""

    vectors: list[list[float]]
    prompt_tokens: int = 0
    total_duration_ns: int = 0
    load_duration_ns: int = 0
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferStatus:
    """One progress line of pull, push or create: a status, and bytes of a digest when it is about one.

    `notices` travel on the last line only.
    """

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0
    notices: tuple[Notice, ...] = ()

    @property
    def is_last(self) -> bool:
        """Whether the transfer has succeeded with this line."""
        return self.status == "success"
