"""LlamaIndex's Ollama integration: chat, stream, tool call, embedding."""

from expected import CHAT, EMBED, QUESTION, TOOLS, URL, check_call, check_vectors, get_weather
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama

chat = Ollama(model=CHAT, base_url=URL, temperature=0, request_timeout=120, additional_kwargs={"num_predict": 12})
hello = [ChatMessage(role="user", content="Say hello.")]
reply = chat.chat(hello).message.content
assert reply
assert "".join(chunk.delta or "" for chunk in chat.stream_chat(hello)) == reply
assert chat.complete("Say hello.").text

caller = Ollama(model=TOOLS, base_url=URL, temperature=0, request_timeout=120, additional_kwargs={"num_predict": 60})
weather = FunctionTool.from_defaults(get_weather)
called = caller.chat_with_tools([weather], user_msg=QUESTION)
call = caller.get_tool_calls_from_response(called)[0]
check_call(call.tool_name, call.tool_kwargs)

vectors = OllamaEmbedding(model_name=EMBED, base_url=URL)
many = vectors.get_text_embedding_batch(["Hello world", "Something else"])
check_vectors(vectors.get_text_embedding("Hello world"), many)
