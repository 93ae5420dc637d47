"""Conversations in the engine's form: messages, tools, thinking."""

from __future__ import annotations

from corral.core import Message, Tool, ToolCall, ToolChoice
from corral.inference.ways.messages import engine_messages, think_fields, tool_choice_fields


def test_messages_have_the_engines_form() -> None:
    call = ToolCall("f", {"a": "ä"}, "")
    messages = [
        Message("user", "look", images=(b"\xff\xd8jpeg", b"RIFF....WAVE")),
        Message("assistant", "", thinking="hm", tool_calls=(call,)),
        Message("tool", "42", tool_name="f", tool_call_id="c"),
    ]
    user, assistant, tool = engine_messages(messages)
    kinds = [part["type"] for part in user["content"]]
    assert kinds == ["text", "image_url", "input_audio"]
    assert user["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert assistant["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": "ä"}'}
    assert assistant["reasoning_content"] == "hm"
    assert "reasoning_content" not in str([user, tool])
    assert tool == {"role": "tool", "content": "42", "tool_call_id": "c", "name": "f"}


def test_a_named_tool_is_the_only_one_offered_and_required() -> None:
    tools = [Tool("f"), Tool("g")]
    fields = tool_choice_fields(tools, ToolChoice("named", "g", parallel=False))
    assert [tool["function"]["name"] for tool in fields["tools"]] == ["g"]
    assert (fields["tool_choice"], fields["parallel_tool_calls"]) == ("required", False)
    assert tool_choice_fields([], ToolChoice("required")) == {}


def test_thinking_is_told_to_the_template_only_when_decided() -> None:
    assert think_fields(None) == {}
    assert think_fields(False) == {"chat_template_kwargs": {"enable_thinking": False}}
    kwargs = {"enable_thinking": True, "reasoning_effort": "max"}
    assert think_fields("max") == {"chat_template_kwargs": kwargs}
