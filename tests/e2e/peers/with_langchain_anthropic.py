"""langchain-anthropic: chat, stream, tool call (Anthropic has no embeddings)."""

from expected import CHAT, QUESTION, TOOLS, URL, check_call, get_weather
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool

SERVER = {"base_url": URL, "api_key": "x", "max_retries": 0}


def text_of(content: object) -> str:
    """Text of a content that may be a list of blocks."""
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


chat = ChatAnthropic(model=CHAT, max_tokens=12, **SERVER)
reply = chat.invoke("Say hello.")
assert reply.content
assert reply.usage_metadata["input_tokens"] == 12
assert "".join(text_of(chunk.content) for chunk in chat.stream("Say hello."))

caller = ChatAnthropic(model=TOOLS, max_tokens=60, **SERVER).bind_tools([tool(get_weather)])
called = caller.invoke(QUESTION)
check_call(called.tool_calls[0]["name"], called.tool_calls[0]["args"])
streamed = None
for chunk in caller.stream(QUESTION):
    streamed = chunk if streamed is None else streamed + chunk
check_call(streamed.tool_calls[0]["name"], streamed.tool_calls[0]["args"])
result = ToolMessage("sunny", tool_call_id=called.tool_calls[0]["id"])
assert caller.invoke([HumanMessage(QUESTION), called, result]).usage_metadata["input_tokens"] > 12
