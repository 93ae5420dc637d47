"""langchain-ollama: chat, stream, tool call, JSON schema, embedding."""

import json

from expected import CHAT, EMBED, QUESTION, TOOLS, URL, check_call, check_vectors, get_weather
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings

chat = ChatOllama(model=CHAT, base_url=URL, temperature=0, num_predict=12)
reply = chat.invoke("Say hello.")
assert reply.content
assert reply.usage_metadata["input_tokens"] == 12
assert "".join(chunk.content for chunk in chat.stream("Say hello.")) == reply.content

caller = ChatOllama(model=TOOLS, base_url=URL, temperature=0, num_predict=60).bind_tools([tool(get_weather)])
called = caller.invoke(QUESTION)
check_call(called.tool_calls[0]["name"], called.tool_calls[0]["args"])
result = ToolMessage("sunny", tool_call_id=called.tool_calls[0]["id"])
assert isinstance(caller.invoke([HumanMessage(QUESTION), called, result]), AIMessage)

schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
bound = ChatOllama(model=CHAT, base_url=URL, temperature=0, num_predict=40, format=schema)
assert isinstance(json.loads(bound.invoke("How old is Ann? She is 30.").content)["age"], int)

vectors = OllamaEmbeddings(model=EMBED, base_url=URL)
check_vectors(vectors.embed_query("Hello world"), vectors.embed_documents(["Hello world", "Something else"]))
