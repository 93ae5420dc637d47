"""Tool calls on the real engine, with a model that always makes the same two calls, and with SmolLM2 by grammar.

Both prompt paths; the tag as plain text and as a control token of the model.
"""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.conftest import ServerProcess
from tests.fakes.made import made
from tests.fakes.scripted import scripted_llama

pytestmark = pytest.mark.e2e

MODEL = "caller"
GO = (
    "{{ if .Tools }}{{ range .Tools }}{{ . }}\n{{ end }}{{ end }}{{ range .Messages }}<|im_start|>{{ .Role }}\n"
    "{{ .Content }}{{ if .ToolCalls }}{{ range .ToolCalls }}<tool_call>\n"
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}\n</tool_call>{{ end }}{{ end }}'
    "<|im_end|>\n{{ end }}<|im_start|>assistant\n{{ if .Tools }}<|tools|>{{ else }}<|answer|>{{ end }}"
)
JINJA = (
    "{% if tools %}<|im_start|>system\n# Tools\n<tools>\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "</tools>\nFor each function call return a json object within <tool_call></tool_call> tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n{% endif %}'
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}\n<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if tools %}<|tools|>{% else %}<|answer|>{% endif %}"
    "{% endif %}"
)
CALLS = [
    *("<tool_call>", '\n{"name": "', "get", "_weather", '", "argu', 'ments": {"city', '": "'),
    *("Paris", '"}', "}\n", "</tool_call>"),
]
FORCED = [" ", '"', *CALLS[-4:]]  # a grammar may force the text before the value as other tokens
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"enum": [7]}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
TURN = {"role": "user", "content": "weather?"}


@pytest.fixture(scope="module", params=["go-plain", "go-control", "jinja-plain"])
def caller(
    request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    path, tag = request.param.split("-")
    gguf = scripted_llama(
        tmp_path_factory.mktemp("caller") / "caller.gguf",
        [["<|tools|>", "Let", " me", " see", *CALLS], FORCED, ["<|answer|>", "Sunny", " it", " was"]],
        chat_template=JINJA if path == "jinja" else None,
        controls=["<|tools|>", "<|answer|>", *(("<tool_call>", "</tool_call>") if tag == "control" else ())],
    )
    fields = {"template": GO} if path == "go" else {}
    with made(server, MODEL, {"caller.gguf": gguf}, **fields):
        yield server


def body_of(*messages: Any, tools: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    options = {"temperature": 0, "num_predict": 60}
    return {
        "model": MODEL,
        "messages": list(messages) or [TURN],
        "tools": tools or [WEATHER],
        "options": options,
        **more,
    }


def test_the_template_gives_the_capability(caller: ServerProcess) -> None:
    assert "tools" in caller.post("/api/show", {"model": MODEL})["capabilities"]


def test_schema_in_call_out(caller: ServerProcess) -> None:
    reply = caller.post("/api/chat", body_of())
    (call,) = reply["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert call["function"]["arguments"] == {"city": "Paris"}
    assert call["id"]
    assert reply["message"]["content"].strip() == "Let me see"
    assert reply["done_reason"] == "stop"
    assert reply.get("warnings") is None


ODD = [
    {"type": "string", "minLength": 5, "maxLength": 2},
    {"type": "array", "minItems": 5, "maxItems": 2},
    {"type": "integer", "minimum": 10**17},
    {"type": "integer", "maximum": -1e17},
    {"type": "string", "pattern": "^a{5,2}$"},
    {"type": "string", "enum": None},
    {"$ref": "#"},
    {"type": "file"},
    True,
]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_no_schema_of_a_tool_fails_the_request_or_takes_the_host(caller: ServerProcess, odd: Any) -> None:
    properties = {"city": {"type": "string"}, "x": odd}
    parameters = {"type": "object", "properties": properties, "required": ["city"]}
    function = {"name": "get_weather", "parameters": parameters}
    began = time.monotonic()
    reply = caller.post("/api/chat", body_of(tools=[{"type": "function", "function": function}]))
    (call,) = reply["message"]["tool_calls"]
    assert call["function"]["arguments"] == {"city": "Paris"}
    assert time.monotonic() - began < 10


def test_streamed_calls_come_whole_and_behind_the_text(caller: ServerProcess) -> None:
    lines = list(caller.stream("/api/chat", body_of()))
    text = "".join(line["message"]["content"] for line in lines)
    assert text.strip() == "Let me see"
    calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
    assert [call["function"]["arguments"] for call in calls] == [{"city": "Paris"}]
    assert lines[-1]["done"] is True


def test_a_call_of_something_that_is_no_tool_never_fails_and_loses_nothing(caller: ServerProcess) -> None:
    reply = caller.post("/api/chat", body_of(tools=[ADD]))
    message = reply["message"]
    assert message["content"].startswith("Let me see")
    for call in message.get("tool_calls", ()):  # the grammar forces the only tool there is, with its arguments
        assert call["function"]["name"] == "add"
        assert call["function"]["arguments"]["b"] == 7


def test_the_result_of_a_call_goes_round(caller: ServerProcess) -> None:
    call = {"id": "call_1", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    history = [
        TURN,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "22 degrees", "tool_name": "get_weather", "tool_call_id": "call_1"},
    ]
    shown = caller.post("/api/chat", body_of(*history, _debug_render_only=True))["_debug_info"]["rendered_template"]
    assert '{"name": "get_weather", "arguments": {' in shown
    assert "tool\n22 degrees" in shown
    assert shown.count("get_weather") >= 2
    last = caller.post("/api/chat", {**body_of(*history), "tools": []})
    assert last["message"]["content"].strip() == "Sunny it was"


def test_tool_choice_and_the_other_apis(caller: ServerProcess) -> None:
    none = caller.post("/api/chat", body_of(tool_choice="none"))
    assert none["message"]["content"] == "Sunny it was"
    forced = caller.post("/api/chat", body_of(tools=[WEATHER, ADD], tool_choice={"function": {"name": "get_weather"}}))
    assert [call["function"]["name"] for call in forced["message"]["tool_calls"]] == ["get_weather"]
    asked = {"model": MODEL, "messages": [TURN], "temperature": 0, "max_tokens": 60}
    openai = caller.post("/v1/chat/completions", {**asked, "tools": [WEATHER]})["choices"][0]
    assert json.loads(openai["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
    assert openai["finish_reason"] == "tool_calls"
    function: Any = WEATHER["function"]
    tool = {"name": "get_weather", "input_schema": function["parameters"]}
    anthropic = caller.post("/v1/messages", {**asked, "tools": [tool]})
    assert anthropic["stop_reason"] == "tool_use"
    assert anthropic["content"][-1]["input"] == {"city": "Paris"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}], ids=str)
def test_a_call_that_must_be_comes_at_once_and_is_held_to_its_schema(caller: ServerProcess, choice: Any) -> None:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 80}
    reply = caller.post(
        "/v1/chat/completions", {**asked, "tools": [ADD], "tool_choice": choice, "parallel_tool_calls": False}
    )
    message = reply["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert json.loads(call["function"]["arguments"])["b"] == 7
    assert not message.get("content")
    assert reply["choices"][0]["finish_reason"] == "tool_calls"
    assert reply.get("warnings") is None


def test_a_call_that_must_be_and_is_cut_short_is_told(caller: ServerProcess) -> None:
    options = {"temperature": 0, "num_predict": 2}
    reply = caller.post("/api/chat", body_of(tool_choice="required") | {"options": options})
    assert "tool_choice_unmet" in [warning["code"] for warning in reply["warnings"]]


def test_a_format_beside_tools_holds_on_every_path(caller: ServerProcess) -> None:
    form = {"type": "object", "properties": {"k": {"const": "v"}}, "required": ["k"]}
    reply = caller.post("/api/chat", body_of(format=form))
    assert reply["message"]["content"] == '{"k": "v"}' or reply["message"]["tool_calls"]


_TURNS = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content or '' }}{% if m.tool_calls %}CALLS{% endif %}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
JINJA_FORMS = {
    "bare": '{% for c in m.tool_calls %}{"name": "{{ c.function.name }}", '
    '"parameters": {{ c.function.arguments | tojson }}}{% endfor %}',
    "list": "[TOOL_CALLS][{% for c in m.tool_calls %}{% if c.id|length != 9 %}{{ raise_exception('9 characters') }}"
    '{% endif %}{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "{% if not loop.last %}, {% endif %}{% endfor %}]",
    "tags": "{% for c in m.tool_calls %}<call><function={{ c.function.name }}>{% for key, value in c.function.arguments"
    "|items %}<parameter={{ key }}>{{ value }}</parameter>{% endfor %}</function></call>{% endfor %}",
}


@pytest.mark.parametrize("form", JINJA_FORMS)
def test_a_call_is_forced_whatever_the_templates_form(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory, form: str
) -> None:
    gguf = scripted_llama(
        tmp_path_factory.mktemp(form) / "form.gguf",
        [["[assistant]", "Sunny", " it", " was"]],
        chat_template=_TURNS.replace("CALLS", JINJA_FORMS[form]),
    )
    fixed = {"type": "object", "properties": {"a": {"enum": [5]}, "b": {"enum": [7]}}, "required": ["a", "b"]}
    tool = {"type": "function", "function": {"name": "add", "parameters": fixed}}
    with made(server, "former", {"form.gguf": gguf}):
        options = {"temperature": 0, "num_predict": 200}
        asked = body_of(TURN, tools=[tool], tool_choice="required", options=options) | {"model": "former"}
        reply = server.post("/api/chat", asked)
    assert reply["message"]["tool_calls"][0]["function"]["arguments"] == {"a": 5, "b": 7}
    assert reply.get("warnings") is None


GENERIC = {
    "model": "smollm2:135m",
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    "tools": [WEATHER, ADD],
    "options": {"temperature": 0, "num_predict": 80},
}


def test_without_tool_support_tools_are_refused_unless_the_generic_mode_is_asked_for(server: ServerProcess) -> None:
    with pytest.raises(urllib.error.HTTPError) as failure:
        server.post("/api/chat", GENERIC)
    with failure.value as answer:
        assert json.load(answer) == {"error": "registry.ollama.ai/library/smollm2:135m does not support tools"}
        assert "CORRAL_GENERIC_TOOLS=1" in answer.headers["X-Corral-Hint"]
    reply = server.post("/api/chat", {**GENERIC, "generic_tools": True, "tool_choice": "required"})
    for call in reply["message"]["tool_calls"]:
        assert call["function"]["name"] in {"get_weather", "add"}
    (named,) = server.post(
        "/api/chat", {**GENERIC, "generic_tools": True, "tool_choice": {"function": {"name": "add"}}}
    )["message"]["tool_calls"][:1]
    assert named["function"]["arguments"]["b"] == 7
    auto = server.post("/api/chat", {**GENERIC, "generic_tools": True})["message"]
    assert auto["content"] or auto["tool_calls"]


def test_a_tag_that_only_a_range_shows_and_a_bare_call_are_both_read(server: ServerProcess) -> None:
    template = (
        "{{ if .Tools }}{{ range .Tools }}{{ .Function.Name }};{{ end }}{{ end }}{{ range .Messages }}{{ .Role }}:"
        '{{ .Content }}{{ range .ToolCalls }}<call>{"name": "{{ .Function.Name }}", "arguments": '
        "{{ json .Function.Arguments }}}</call>{{ end }}\n{{ end }}"
    )
    form = {
        "type": "object",
        "properties": {"name": {"const": "get_weather"}, "arguments": {"const": {"city": "Paris"}}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    with made(server, "ranged", from_="smollm2:135m", template=template):
        for more in ({"format": form}, {"tool_choice": "required"}):
            reply = server.post("/api/chat", {**GENERIC, "model": "ranged", "tools": [WEATHER], **more})
            assert reply["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
            assert reply["message"]["content"] == ""


def test_a_call_that_the_engine_gives_up_comes_back_as_text(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One token holds the end of what begins a call and the start of a name that no tool has."""
    gguf = scripted_llama(
        tmp_path_factory.mktemp("flyer") / "flyer.gguf",
        [["<|tools|>", "<tool_call>", '\n{"name": "fly', '_away"', ', "arguments"', ": {}", "}\n", "</tool_call>"]],
        chat_template=JINJA,
        controls=["<|tools|>", "<|answer|>"],
    )
    with made(server, "flyer", {"flyer.gguf": gguf}):
        reply = server.post("/api/chat", body_of(TURN, tools=[WEATHER]) | {"model": "flyer"})
    assert "fly" in reply["message"]["content"]
    assert "tool_call_unparsed" in [warning["code"] for warning in reply["warnings"]]
