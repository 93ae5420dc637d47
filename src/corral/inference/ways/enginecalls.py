"""How a model writes calls whose template only the engine applies: learnt from sample calls that it renders.

Called by rendered.py, where an answer has to be a call, or may be one beside a format. The engine's own chat parses
calls in many more forms, but lets text come before one that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from corral.core import Message, Tool
from corral.errors import EngineError
from corral.inference.ways.messages import apply_template, engine_messages
from corral.prompt.toolformat import ToolFormat, learn_format, sample_messages
from corral.sched.request import Lease

_KNOWN_FORMS = 64
_ANSWER = "corral answers"
_TOOLS = (Tool("corral_sample", "A sample.", {"type": "object", "properties": {}}),)
_MARK = re.compile(r"<[^<>\s]{1,40}>|\[[A-Z_/]{3,40}\]")
_forms: dict[str, ToolFormat | None] = {}  # by weights


async def engine_tool_format(lease: Lease) -> ToolFormat | None:
    """The form of calls, None when the template does not show it plainly. The engine is asked once per model."""
    key = str(lease.spec.model_path)
    if key not in _forms:
        while len(_forms) >= _KNOWN_FORMS:
            _forms.pop(next(iter(_forms)))
        _forms[key] = await _learnt(lease)
    return _forms[key]


def marks_of(form: ToolFormat) -> list[str]:
    """Texts of a form that may be control tokens of the model."""
    return list(dict.fromkeys(_MARK.findall(f"{form.start} {form.middle} {form.between} {form.end}")))


async def _learnt(lease: Lease) -> ToolFormat | None:
    try:
        plain = await _rendered(lease, [Message("user", "?"), Message("assistant", _ANSWER)])
        one, two = [await _rendered(lease, sample_messages(count)) for count in (1, 2)]
    except EngineError:  # a template that refuses such a conversation
        return None
    shared = _common(plain, one)
    if not plain.startswith(_ANSWER, shared):
        return None  # calls do not begin where an answer does
    begun = one[shared:]
    tag = begun.partition("{")[0].strip() or "{"
    return learn_format(tag, one, two)


async def _rendered(lease: Lease, messages: Sequence[Message]) -> str:
    """The prompt of a conversation that goes on; ids of calls are such as the strictest template wants them."""
    named = [
        replace(message, tool_calls=tuple(replace(call, id=f"corral00{call.index}") for call in message.tool_calls))
        for message in messages
    ]
    return await apply_template(lease, engine_messages([*named, Message("user", "!")]), _TOOLS, None)


def _common(one: str, two: str) -> int:
    """How many characters both begin with."""
    return next((at for at, (left, right) in enumerate(zip(one, two, strict=False)) if left != right), 0)
