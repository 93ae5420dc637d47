"""Every exception that Corral raises on purpose. Fields are facts; the text is made once, here; no HTTP in it.

CorralError
├── InvalidRequest            the caller's input is wrong
│   ├── InvalidModelName
│   ├── PickleRefused
│   ├── UnsupportedCapability
│   ├── UnsupportedModel      a model that this server's engine cannot run, and why
│   ├── ModelfileError
│   ├── TemplateError
│   ├── TemplateRefused       a conversation that a model's own template does not take
│   ├── ContextOverflow
│   └── BodyTooLarge
├── ModelNotFound
├── BlobNotFound / BlobMissing
├── ModelDamaged              a manifest or a layer on disk is not what it should be
├── DigestMismatch
├── InvalidGGUF
├── UntranslatableModel       a file in Ollama's layout that cannot be written anew for the engine
├── QuantizationError
├── KernelBuildFailed         kernels for this processor could not be made
├── NotEnoughSpace / NotEnoughMemory
├── StoreNotWritable
├── QueueFull
├── BodiesFull
├── RequestCanceled
├── RequestNotFound / NodeNotFound
├── NotKept                   a file or a batch that is not, or no longer, here
├── GaveWay                   a batch's line ended for somebody else's request
├── ServerClosing
├── NoNode                    of a cluster, to load a model on
├── RunnerError
│   ├── RunnerFailedToStart
│   │   └── ChatTemplateUnusable   a chat template that the engine does not even start with
│   ├── RunnerDied            RunnerGone: it was dead before the request reached it; NodeGone: with its machine
│   │   └── AnswerCutShort    … and what it had begun to answer cannot go on
│   ├── RunnerKilled          the server ended it: RunnerHung, RunnerMisbehaved, RunnerOutgrown
│   ├── GrammarLost           the engine goes on without the grammar that an answer was to be held to
│   └── EngineError           the engine answered with an error of its own
├── AnswerUnreadable         the model wrote a tool call that its parser cannot read
├── RegistryError
└── CloudDisabled

`server/errors.py` maps classes to HTTP statuses, `cli/main.py` to exit codes. Nobody compares message text.
"""

from __future__ import annotations

from collections.abc import Sequence


class CorralError(Exception):
    """Base of all errors with a meaning for the caller; `str()` is the text that the caller reads."""


class InvalidRequest(CorralError):
    """The request is wrong; `field` names the part that is, `why` says what would be right."""

    def __init__(self, why: str, *, field: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.field = field


class PickleRefused(InvalidRequest):
    """A PyTorch file among the files of a model: opening it could run code."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is a PyTorch file, which can run code when it is opened and so never is: save the model as "
            "safetensors (in transformers: model.save_pretrained(folder)), or import a GGUF of it",
            field="files",
        )
        self.name = name


class InvalidModelName(InvalidRequest):
    """A model name that the grammar of names.py refuses."""

    def __init__(self, name: str, why: str = "invalid model name") -> None:
        super().__init__(why, field="model")
        self.name = name


class UnsupportedCapability(InvalidRequest):
    """The model lacks a capability that the request needs; `hint` is what would help, where anything does."""

    def __init__(self, model: str, capability: str, why: str = "", hint: str = "") -> None:
        super().__init__(why or f"{model} does not support {capability}")
        self.model = model
        self.capability = capability
        self.hint = hint


class UnsupportedModel(InvalidRequest):
    """A model that this server cannot run; `why` names what it lacks and what could be done."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(f"model '{model}' cannot run here: {why}", field="model")
        self.model = model


class ModelfileError(InvalidRequest):
    """A Modelfile that does not parse; `line` is 1-based, 0 when no line is to blame."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(f"(line {line}): {why}" if line else why, field="modelfile")
        self.line = line


class TemplateError(InvalidRequest):
    """A Go template that does not parse or execute. As in Go, lines count from 1, columns from 0 and in bytes."""

    def __init__(self, why: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"template: :{line}:{column}: {why}" if line else why, field="template")
        self.line = line
        self.column = column
        self.go_text = f"template: :{line}: {why}" if line else why  # what Go says of one that does not parse


class TemplateRefused(InvalidRequest):
    """A conversation that the template in the model's file does not take in any form; `reason`: in its own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model's chat template does not take this conversation: {reason}", field="messages")
        self.reason = reason


class ContextOverflow(InvalidRequest):
    """The prompt does not fit the context window and may not be cut.

    `maximum`: tokens that would have been taken, which leaves room for an answer; `remedy`: what would make it fit.
    """

    def __init__(
        self, prompt_tokens: int, context_window: int, maximum: int = 0, *, why: str = "", remedy: str = ""
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.context_window = context_window
        self.maximum = maximum or context_window
        self.remedy = remedy or "shorten the prompt or raise num_ctx"
        room = f", and with room for an answer {self.maximum}" if self.maximum < context_window else ""
        text = f"the prompt has {prompt_tokens} tokens, the context window holds {context_window}{room}; {self.remedy}"
        super().__init__(why or text)


class BodyTooLarge(InvalidRequest):
    """A request body over the server's bound, or over a route's own, of which `why` tells."""

    def __init__(self, limit_bytes: int, why: str = "") -> None:
        super().__init__(why or f"request body too large: the limit is {limit_bytes} bytes (CORRAL_MAX_BODY)")
        self.limit_bytes = limit_bytes


class BodyStalled(CorralError):
    """A large request body of which nothing more comes, while it takes room from others."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing more of the request body came for {seconds:.0f} seconds")
        self.seconds = seconds


class ModelNotFound(CorralError):
    """No manifest has this name; `text` is what the route says (the routes word it differently)."""

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(text or f"model '{name}' not found")
        self.name = name


class BlobNotFound(CorralError):
    """A digest that was never uploaded."""

    def __init__(self, digest: str, text: str = "") -> None:
        super().__init__(text or f'blob "{digest}" not found')
        self.digest = digest


class BlobMissing(CorralError):
    """A manifest refers to a blob whose file is gone from disk."""

    def __init__(self, model: str, digest: str) -> None:
        super().__init__(
            f"model '{model}' is damaged: blob {digest} is missing from the store; "
            f"run 'corral pull {model}' to fetch it again or 'corral fsck' to see what else is"
        )
        self.model = model
        self.digest = digest


class ModelDamaged(CorralError):
    """A manifest or a layer of a model is there but cannot be read; `why` says what is wrong with it."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(f"model '{model}' is damaged: {why}; run 'corral fsck' to see what else is")
        self.model = model
        self.why = why


class DigestMismatch(CorralError):
    """Bytes that do not hash to the digest they were given under; the bytes have been deleted."""

    def __init__(self, want: str, got: str, text: str = "") -> None:
        super().__init__(text or f'digest mismatch, expected "{want}", got "{got}"')
        self.want = want
        self.got = got


class InvalidGGUF(CorralError):
    """A file that is no usable GGUF; `offset` is where reading stopped."""

    def __init__(self, why: str, offset: int = 0) -> None:
        super().__init__(f"invalid GGUF: {why}" + (f" (at byte {offset})" if offset else ""))
        self.why = why
        self.offset = offset


class UntranslatableModel(CorralError):
    """A file in one of Ollama's own layouts whose parts do not fit that layout; `part` names the tensor or key."""

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"the model cannot be brought into the engine's layout: {part}: {why}")
        self.part = part
        self.why = why


class KernelBuildFailed(CorralError):
    """Kernels for this processor could not be made; the built-in ones go on being used."""

    def __init__(self, why: str) -> None:
        super().__init__(f"kernels could not be made: {why}")
        self.why = why


class QuantizationError(CorralError):
    """A model that cannot be quantized as asked: its type, the wanted type, or its values."""


class NotEnoughSpace(CorralError):
    """The store's disk is full, or would be."""

    def __init__(self, need_bytes: int, free_bytes: int) -> None:
        super().__init__(f"not enough space: need {need_bytes} bytes, free {free_bytes} bytes")
        self.need_bytes = need_bytes
        self.free_bytes = free_bytes


class StoreNotWritable(CorralError):
    """The models folder is another user's, or on a file system that is mounted read-only; `why`: the system's words."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the models folder cannot be written: {why}")
        self.why = why


class NotEnoughMemory(CorralError):
    """A model that cannot be made to fit; `advice` says what would help."""

    def __init__(self, model: str, need_bytes: int, free_bytes: int, advice: str = "") -> None:
        text = f"model '{model}' needs {need_bytes} bytes of memory, {free_bytes} are available"
        super().__init__(f"{text}; {advice}" if advice else text)
        self.model = model
        self.need_bytes = need_bytes
        self.free_bytes = free_bytes


class QueueFull(CorralError):
    """As many requests wait as the server allows."""

    def __init__(self, limit: int, retry_after_s: int = 1) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")
        self.limit = limit
        self.retry_after_s = retry_after_s


class BodiesFull(CorralError):
    """The bodies of all requests together would have more bytes than the server holds."""

    def __init__(self, limit_bytes: int, retry_after_s: int = 5) -> None:
        super().__init__(f"server busy, please try again: the request bodies under way have {limit_bytes} bytes")
        self.limit_bytes = limit_bytes
        self.retry_after_s = retry_after_s


class RequestCanceled(CorralError):
    """The caller, or DELETE /api/requests/{id}, ended the request before it was served."""

    def __init__(self, text: str = "request canceled") -> None:
        super().__init__(text)


class NoNode(CorralError):
    """No machine of the cluster takes loads, or none of those that a model is pinned to; it was waited for so long."""

    def __init__(self, waited_s: float, wanted: Sequence[str] = ()) -> None:
        which = f"none of the nodes {', '.join(wanted)}" if wanted else "no node"
        super().__init__(f"{which} of the cluster takes loads; waited {waited_s:.0f} s for one")
        self.waited_s = waited_s
        self.wanted = tuple(wanted)


class GaveWay(CorralError):
    """A line of a batch was ended, because somebody else's request needs its place; it is asked again."""

    def __init__(self) -> None:
        super().__init__("ended in favour of another request; it will be asked again")


class NotKept(CorralError):
    """A file or a batch that is not, or no longer, here; `kind` is OpenAI's word for it."""

    def __init__(self, kind: str, wanted: str) -> None:
        super().__init__(f"No such {kind} object: {wanted}")
        self.kind = kind
        self.wanted = wanted


class ServerClosing(CorralError):
    """The server shuts down and takes no more requests."""

    def __init__(self) -> None:
        super().__init__("server is shutting down")


class RequestNotFound(CorralError):
    """DELETE /api/requests/{id} of a request that has ended, or never was."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request '{request_id}' not found")
        self.request_id = request_id


class NodeNotFound(CorralError):
    """A machine that is not in the cluster, or not any more."""

    def __init__(self, node: str) -> None:
        super().__init__(f"node '{node}' not found: GET /api/cluster lists those that are there")
        self.node = node


class NotOffered(CorralError):
    """A route of another API that clients know of and Corral does not have."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is not supported: Corral makes text and embeddings, no images and no audio")
        self.path = path


class RunnerError(CorralError):
    """Something went wrong in or around a runner process."""


class RunnerFailedToStart(RunnerError):
    """The runner exited, or never became ready, while loading; `out_of_memory`: less memory might have helped."""

    def __init__(self, reason: str, last_lines: Sequence[str] = (), *, out_of_memory: bool = False) -> None:
        tail = last_lines[-1] if last_lines else ""
        super().__init__(f"{reason}: {tail}" if tail else reason)
        self.reason = reason
        self.last_lines = tuple(last_lines)
        self.out_of_memory = out_of_memory


class ChatTemplateUnusable(RunnerFailedToStart):
    """The engine cannot read the chat template in the model's file, or not run it; `why` in the engine's words."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the chat template in the model's file cannot be used: {why}; raw prompts, a template in the request and "
            "a model made of this one with a TEMPLATE of its own work"
        )
        self.why = why


class RunnerDied(RunnerError):
    """The runner exited while it served; `exit_code` is negative for a signal, None if unknown."""

    def __init__(
        self, exit_code: int | None = None, last_lines: Sequence[str] = (), *, mid_stream: bool = False
    ) -> None:
        how = "" if exit_code is None else f"signal {-exit_code}" if exit_code < 0 else f"exit status {exit_code}"
        reason = ": ".join(part for part in (how, last_lines[-1] if last_lines else "") if part)
        super().__init__(f"an error was encountered while running the model: {reason or 'unexpected EOF'}")
        self.exit_code = exit_code
        self.last_lines = tuple(last_lines)
        self.mid_stream = mid_stream


class RunnerGone(RunnerDied):
    """A runner that had been there for a while was dead before it answered a request's first call."""


class NodeGone(RunnerDied):
    """The machine of a cluster that the runner was on is gone; `why` says how that was noticed."""

    def __init__(self, node: str, why: str = "") -> None:
        super().__init__(None, (f"the node {node} was lost" + (f": {why}" if why else ""),))
        self.node = node
        self.why = why


class AnswerCutShort(RunnerDied):
    """An answer of which a part was sent cannot go on with another runner; `why` says what is in the way."""

    def __init__(self, error: RunnerDied, why: str) -> None:
        super().__init__(error.exit_code, error.last_lines)
        self.args = (f"{error}; the answer cannot go on elsewhere: {why}",)
        self.why = why


class RunnerKilled(RunnerError):
    """The server ended a runner that was alive; `last_lines` is the end of its log."""

    last_lines: tuple[str, ...] = ()


class RunnerMisbehaved(RunnerKilled):
    """The engine answered what no engine answers; `what` says in which way, `text` is what the caller reads of it."""

    def __init__(self, what: str, text: str = "") -> None:
        super().__init__(text or f"the model runner gave an answer that cannot be used and was restarted: {what}")
        self.what = what


class RunnerOutgrown(RunnerKilled):
    """The runner took more than it may have."""

    def __init__(self, what: str, limit: int, last_lines: Sequence[str] = ()) -> None:
        super().__init__(f"the model runner wanted more {what} than it may have ({limit}) and was restarted")
        self.what = what
        self.limit = limit
        self.last_lines = tuple(last_lines)


class RunnerHung(RunnerKilled):
    """The engine made no progress for the deadline and was killed."""

    def __init__(self, deadline_s: float, last_lines: Sequence[str] = ()) -> None:
        super().__init__(f"the model runner made no progress for {deadline_s:g} s and was restarted")
        self.deadline_s = deadline_s
        self.last_lines = tuple(last_lines)


class GrammarLost(RunnerError):
    """The engine gave up the grammar of an answer, and would go on without it; `why` in its own words."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the engine could not hold the answer to its format: {why}")
        self.why = why


class EngineError(RunnerError):
    """The engine refused or failed a call; `status` is its HTTP status, `message` its own words."""

    def __init__(self, status: int, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind


class AnswerUnreadable(CorralError):
    """A tool call in an answer that the model's parser cannot read; `why` is what Ollama says then."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class RegistryError(CorralError):
    """A registry answered with an error; `status` is its HTTP status, 0 if it never answered."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class CloudDisabled(CorralError):
    """A cloud model or cloud feature was asked for; Corral has none."""

    def __init__(self, what: str = "remote model is unavailable") -> None:
        super().__init__(f"ollama cloud is disabled: {what}")
