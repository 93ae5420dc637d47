"""Request bodies as hypothesis draws them: right ones of every route, with something wrong put in anywhere."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "enum": [1, 2]}}, "required": ["a"]}
_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": _SCHEMA}}
_TURNS = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
_OPTIONS = {"num_predict": 3, "temperature": 0.5, "stop": ["x"], "num_ctx": 64, "seed": 1, "top_k": 3}
_FEW = {"max_tokens": 3, "temperature": 0.5, "stop": ["x"], "top_p": 0.9, "stream": False}
_PARTS = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PNG}"}}]
_BLOCKS = [
    {"type": "text", "text": "a"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PNG}},
]
# route → right bodies
RIGHT: dict[str, list[dict[str, Any]]] = {
    "/api/generate": [
        {"prompt": "hi", "system": "s", "options": _OPTIONS, "format": _SCHEMA, "keep_alive": "5m", "think": False},
        {"prompt": "hi", "suffix": "there", "template": "{{ .Prompt }}{{ .Suffix }}", "raw": False, "context": [1, 2]},
        {"prompt": "hi", "raw": True, "logprobs": True, "top_logprobs": 2, "images": [], "shift": True},
    ],
    "/api/chat": [
        {
            "messages": _TURNS,
            "options": _OPTIONS,
            "tools": [_TOOL],
            "format": "json",
            "keep_alive": 3,
            "truncate": True,
        },
        {
            "messages": [
                *_TURNS,
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
                },
                {"role": "tool", "content": "1", "tool_name": "f"},
            ],
            "_debug_render_only": True,
        },
        {"messages": [{"role": "user", "content": "x", "images": [_PNG]}], "_debug_render_only": True},
    ],
    "/api/embed": [{"model": "vectors", "input": ["a", "b"], "dimensions": 3, "truncate": True, "options": _OPTIONS}],
    "/api/embeddings": [{"model": "vectors", "prompt": "a"}],
    "/api/show": [{"verbose": True, "system": "x", "options": {"seed": 1}}],
    "/api/copy": [{"source": "go", "destination": "other"}],
    "/api/tokenize": [{"content": "hi", "add_special": True}],
    "/api/detokenize": [{"tokens": [1, 2, 3]}],
    "/api/rerank": [{"query": "q", "documents": ["a", "b"], "top_n": 1}],
    "/api/create": [
        {
            "model": "made",
            "from": "go",
            "system": "s",
            "template": "{{ .Prompt }}",
            "license": ["MIT"],
            "parameters": _OPTIONS,
            "messages": _TURNS,
            "info": {"context_length": 9},
        },
        {"model": "made", "modelfile": 'FROM go\nSYSTEM """x"""\nPARAMETER stop a\nMESSAGE user hi\n'},
        {"model": "made", "files": {"m.gguf": "sha256:" + "0" * 64}, "quantize": "q8_0", "adapters": {}},
    ],
    "/v1/chat/completions": [
        {"messages": _TURNS, **_FEW, "tools": [_TOOL], "tool_choice": "auto", "n": 1, "seed": 3, "user": "u"},
        {"messages": [{"role": "user", "content": _PARTS}], "_debug_render_only": True, "logit_bias": {"5": -1}},
        {
            "messages": [
                *_TURNS,
                {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "ok"},
            ],
            **_FEW,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA, "strict": True}},
            "stream_options": {"include_usage": True},
            "reasoning_effort": "low",
        },
    ],
    "/v1/completions": [{"prompt": "hi", **_FEW, "echo": False, "suffix": "", "logprobs": 1, "n": 1}],
    "/v1/embeddings": [{"model": "vectors", "input": [[1, 2], [3]], "dimensions": 2, "encoding_format": "base64"}],
    "/v1/responses": [
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "ok"},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            ],
            "instructions": "s",
            "tools": [{"type": "function", "name": "f", "parameters": _SCHEMA}],
            "max_output_tokens": 3,
            "text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA}},
            "store": False,
            "truncation": "auto",
        },
        {"input": "hi", "previous_response_id": None, "metadata": {"a": "b"}, "reasoning": {"effort": "low"}},
    ],
    "/v1/messages": [
        {
            "messages": [
                {"role": "user", "content": _BLOCKS},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "1"}]},
            ],
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "tools": [{"name": "f", "description": "d", "input_schema": _SCHEMA}],
            "tool_choice": {"type": "auto"},
            "max_tokens": 3,
            "stop_sequences": ["x"],
            "thinking": {"type": "disabled"},
        },
        {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "metadata": {"user_id": "u"}, "top_k": 3},
    ],
    "/v1/messages/count_tokens": [{"messages": [{"role": "user", "content": "hi"}], "system": "s"}],
}
ODD: SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, True, False, 0, -1, 1, 2.5, 1e300, 2**63, -(2**63) - 1, 10**40, "", "x", "\x00", "\ud7ff😀"]
    ),
    st.sampled_from([[], {}, [None], [[]], [{}], {"": None}, {"type": "x"}, {"a": {"b": [1, {"c": "d"}]}}, ["x"] * 3]),
    st.sampled_from(
        ["json", "sha256:" + "a" * 64, "../../etc/passwd", "data:image/png;base64,QQ==", "{{ .Prompt", "a" * 5000]
    ),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A route and a body: a right one, changed at up to three places, values and keys."""
    path = draw(st.sampled_from(sorted(RIGHT)))
    body = {"model": draw(st.sampled_from(["go", "jinja"])), "stream": False}
    body |= copy.deepcopy(draw(st.sampled_from(RIGHT[path])))
    for _ in range(draw(st.integers(0, 3))):
        _change(draw, body, draw(st.sampled_from(_places(body))))
    if path == "/api/create" and isinstance(body.get("from"), str):
        body["from"] = "go"  # no other is there, and none is to be pulled
    return path, body


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place below the root that holds something."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(*place, key) for key, _ in children]
    return found + [below for at in found for below in _places(value[at[-1]], at)]


def _change(draw: st.DrawFn, body: dict[str, Any], place: tuple[Any, ...]) -> None:
    parent: Any = body
    for key in place[:-1]:
        parent = parent[key]
    kind = draw(st.sampled_from(["set", "set", "set", "drop", "twice", "new"]))
    if kind == "set":
        parent[place[-1]] = copy.deepcopy(draw(ODD))
    elif kind == "drop":
        del parent[place[-1]]
    elif kind == "twice" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[place[-1]]))
    elif isinstance(parent, dict):
        parent[draw(st.sampled_from(["type", "role", "content", "name", "id", "x", "strict", "format"]))] = (
            copy.deepcopy(draw(ODD))
        )


RAW: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda body, at: json.dumps(body).encode()[:at], st.sampled_from(RIGHT["/api/chat"]), st.integers(0, 90)),
    st.text(alphabet='{}[]":,0123456789.eE-+ntf \\u00\n', max_size=40).map(lambda text: text.encode()),
)
