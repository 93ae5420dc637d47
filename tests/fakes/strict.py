"""Chat templates that refuse conversations, as many on Hugging Face do, and histories to try on them.

Each template raises for one kind of thing; the words of its makers are in `raise_exception`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

_TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}"
_CALLS = (
    "{% for c in m.tool_calls or [] %}<tool_call>"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}'
)
_END = "<|im_end|>\n"
_START = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_EACH = "{% for m in messages %}"


def _refuse(condition: str, why: str) -> str:
    return f"{{% if {condition} %}}{{{{ raise_exception('{why}') }}}}{{% endif %}}"


def _loop(*checks: str, turn: str = _TURN + _CALLS) -> str:
    return _EACH + "".join(checks) + turn + _END + "{% endfor %}" + _START


TEMPLATES = {
    "tolerant": _loop(),
    "system-first": _loop(_refuse("m.role == 'system' and not loop.first", "System message must be at the beginning.")),
    "alternating": "{% set off = 1 if messages[0].role == 'system' else 0 %}"
    "{% if off %}[SYS]{{ messages[0].content }}{% endif %}{% for m in messages[off:] %}"
    + _refuse("(m.role == 'user') != (loop.index0 % 2 == 0)", "Conversation roles must alternate user/assistant/...")
    + f"{_TURN}{_END}{{% endfor %}}{_START}",
    "no-system": _loop(
        _refuse("m.role == 'system'", "System role not supported"),
        _refuse("m.role not in ['user', 'assistant']", "Only user and assistant roles are supported!"),
        _refuse("loop.index0 and messages[loop.index0 - 1].role == m.role", "roles must alternate"),
        turn=_TURN,
    ),
    "needs-user": "{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.found = true %}{% endif %}{% endfor %}"
    + _refuse("not ns.found", "No user query found in messages.")
    + _loop(_refuse("m.role not in ['system', 'user', 'assistant', 'tool']", "Unexpected message role.")),
    "one-call": _loop(
        _refuse("m.tool_calls and m.tool_calls | length != 1", "This model only supports single tool-calls at once!"),
        _refuse(
            "m.role == 'tool' and (loop.first or not messages[loop.index0 - 1].tool_calls)",
            "Message has tool role, but there was no previous assistant message with a tool call!",
        ),
    ),
    "nine-letters": "{% set ns = namespace(last='') %}"
    + _loop(
        "{% if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}"
        + _refuse("m.role == ns.last", "conversation roles must alternate except for tool calls and results")
        + "{% set ns.last = m.role %}{% endif %}",
        "{% for c in m.tool_calls or [] %}"
        + _refuse("c.id | length != 9", "Tool call IDs should be alphanumeric strings with length 9!")
        + "{% endfor %}",
    ),
    "keeps-one-system": "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.system = m.content %}{% endif %}{% endfor %}{{ ns.system }}"
    "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}"
    + _TURN
    + _END
    + "{% endif %}{% endfor %}"
    + _START,
}
GO_TEMPLATE = (
    "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ range .Messages }}"
    '{{ if ne .Role "system" }}<|im_start|>{{ .Role }}\n{{ .Content }}{{ range .ToolCalls }}'
    '<tool_call>{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>{{ end }}'
    "<|im_end|>\n{{ end }}{{ end }}<|im_start|>assistant\n"
)

_WORDS = st.sampled_from(["alpha beta", "gamma, delta!", "line one\nline two", 'says "hello there"', "Grüße und Küsse"])
_TEXTS = st.one_of(_WORDS, st.just(""), st.just(" "))


@st.composite
def _messages(draw: st.DrawFn, number: int) -> dict[str, Any]:
    role = draw(st.sampled_from(["user", "user", "assistant", "assistant", "tool", "system", "developer", "", "robot"]))
    text = draw(_TEXTS)
    message: dict[str, Any] = {"role": role, "content": f"{text} {number}{number}{number}" if text.strip() else text}
    if role == "assistant":
        names = draw(st.lists(st.sampled_from(["look", "seek"]), max_size=2))
        message["tool_calls"] = [
            {"id": f"call_{number}_{place}", "function": {"name": name, "arguments": {"what": draw(_WORDS)}}}
            for place, name in enumerate(names)
        ]
        message["thinking"] = draw(st.sampled_from(["", "hm, well"]))
    if role == "tool":
        message |= draw(st.sampled_from([{}, {"tool_name": "look"}, {"tool_call_id": f"call_{number - 1}_0"}]))
    return message


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Conversations as clients of the native API may send them, in any order of roles."""
    return [draw(_messages(number)) for number in range(draw(st.integers(1, 7)))]


def missing(history: list[dict[str, Any]], prompt: str) -> list[str]:
    """What of a history a prompt does not show; written plainly or as JSON."""
    texts = [message["content"].strip() for message in history]
    calls = [call["function"]["arguments"]["what"] for message in history for call in message.get("tool_calls") or []]
    return [text for text in (*texts, *calls) if text not in prompt and json.dumps(text)[1:-1] not in prompt]
