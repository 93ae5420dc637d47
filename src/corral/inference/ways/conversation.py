"""`Conversation`: one chat request on its lease, shared by the two ways of running it. Made by chat.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from corral.constraint.trial import Trial
from corral.core import Event, GenerationParameters, Message, Notice, Rendered, Think, Tool, ToolChoice
from corral.inference.preparing.leasing import Prepared
from corral.inference.preparing.way import renderer_of
from corral.inference.running.run import Run
from corral.sched.request import Lease
from corral.store.models import Model


@dataclass(slots=True)
class Conversation:
    """What both ways need. messages: the model's own come first; tools: those that may be called."""

    lease: Lease
    trial: Trial
    prepared: Prepared
    messages: Sequence[Message]
    tools: Sequence[Tool]
    tool_choice: ToolChoice
    think: Think
    parameters: GenerationParameters
    notices: list[Notice] = field(default_factory=list)
    generic_tools: bool = False  # the model has no tools of its own: prompted and bound by a grammar
    keeps_all: bool = False  # an agent's: nothing is dropped

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self.prepared.model

    @property
    def must_call(self) -> bool:
        """Whether the answer has to call a tool."""
        return bool(self.tools) and self.tool_choice.mode in ("required", "named")


class Way(Protocol):
    """A way of running a conversation; `messages` are those that fit."""

    async def count(self, messages: Sequence[Message], *, exact: bool = False, within: int = 0) -> int:
        """Prompt tokens without images; an upper bound is enough unless `exact`.

        A prompt far beyond the window (`within`, if that is larger) is AtLeast what proves it.
        """
        ...

    async def show(self, messages: Sequence[Message]) -> Rendered:
        """The prompt as the engine would get it."""
        ...

    def run(self, messages: Sequence[Message], run: Run) -> AsyncIterator[Event]:
        """The answer's deltas; at the end `run` knows its reason, counts and times."""
        ...


def full_history(model: Model, messages: Sequence[Message]) -> list[Message]:
    """The model's SYSTEM, unless the request brings one first, its MESSAGEs, then the request's messages.

    `developer`, OpenAI's newer word for the system's turn, is that turn where a template renders: none knows it.
    Renderers that a config names treat the role as Ollama's do.
    """
    named = renderer_of(model) is not None
    asked = [
        replace(message, role="system") if message.role == "developer" and not named else message
        for message in messages
    ]
    own_system = bool(model.system) and asked[0].role != "system"
    return [*([Message("system", model.system)] if own_system else []), *model.messages, *asked]
