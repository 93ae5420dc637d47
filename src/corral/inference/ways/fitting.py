"""A conversation fitted into its window, or refused where nothing may be dropped. Called by chat.py.

Agents (`ChatRequest.keeps_all`) compact their conversations themselves, when they are told in words that they know;
a cut behind their backs makes nonsense of their instructions. The server's log tells the owner what would help.
"""

from __future__ import annotations

import logging

from corral.core import Message, characters_of
from corral.errors import ContextOverflow
from corral.inference.running.longtext import is_far_beyond
from corral.inference.running.window import TOO_LONG_WITHOUT_SHIFT, most_window, window_of
from corral.inference.ways.conversation import Conversation, Way
from corral.prompt.fit import IMAGE_TOKENS, answer_room, fit_messages, most_room
from corral.store.models import Model

log = logging.getLogger(__name__)


async def fit(conversation: Conversation, way: Way, counted: int | None = None) -> list[Message]:
    """The messages that fit the window, with a notice of those that do not; raises ContextOverflow.

    counted: what `measure` said of the whole conversation, where that was asked.
    """
    choices, lease = conversation.prepared.choices, conversation.lease
    asked = choices.refuses_overflow
    window = window_of(lease)
    agent = conversation.keeps_all and "on_overflow" not in choices.explicit
    if not (conversation.parameters.truncate or asked or agent):
        if is_far_beyond(characters_of(conversation.messages), window):
            tokens = await way.count(conversation.messages)
            if tokens > window:  # as the engine would say, once it had read all of it
                raise ContextOverflow(tokens, window)
        return list(conversation.messages)
    try:
        fitted = await fit_messages(
            conversation.messages,
            way.count,
            window,
            room=0 if asked and not agent else answer_room(window, int(choices.values["num_predict"])),
            image_tokens=image_tokens(conversation.model),
            on_overflow="error" if asked or agent else "drop",
            whole=counted,
        )
    except ContextOverflow as error:
        if not (asked or agent or lease.spec.context_shift):
            raise ContextOverflow(error.prompt_tokens, window, why=TOO_LONG_WITHOUT_SHIFT) from error
        remedy = remedy_for(conversation.model, window)
        told = ContextOverflow(error.prompt_tokens, window, error.maximum, remedy=remedy)
        if agent:
            log.warning("%s, request of %s: %s", conversation.model.name.short, _who(conversation), told)
        raise told from error
    conversation.notices.extend(fitted.notices)
    return list(fitted.messages)


async def measure(conversation: Conversation, way: Way) -> int:
    """Tokens of the whole conversation, images included; of one that no window of the model holds, AtLeast."""
    images = sum(len(message.images) for message in conversation.messages)
    tokens = await way.count(conversation.messages, within=most_window(conversation.lease, conversation.prepared))
    return tokens + images * image_tokens(conversation.model)


def missing(conversation: Conversation, tokens: int) -> int:
    """Tokens of window that a conversation of so many and an answer need; 0 when the lease's window has them."""
    window, asked = window_of(conversation.lease), int(conversation.prepared.choices.values["num_predict"])
    return 0 if tokens <= window - answer_room(window, asked) else tokens + most_room(asked)


def image_tokens(model: Model) -> int:
    """What an image counts before the engine has seen it; 0 for a model without eyes."""
    return IMAGE_TOKENS if model.projector_sources else 0


def remedy_for(model: Model, window: int) -> str:
    """What would make a longer prompt fit."""
    trained = model.header.get("context_length", 0) if model.header else 0
    if isinstance(trained, int) and 0 < trained <= window:
        return f"{window} tokens are all that this model was trained on: shorten the prompt"
    known = f"this model was trained on {trained}: " if trained else ""
    return (
        f"shorten the prompt, or give the model a larger window: {known}set CORRAL_CONTEXT_LENGTH or PARAMETER num_ctx"
    )


def _who(conversation: Conversation) -> str:
    caller = conversation.prepared.common.caller
    return " on ".join(part for part in (caller.client, caller.route) if part) or "a client"
