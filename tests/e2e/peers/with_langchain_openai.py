"""langchain-openai: chat, stream, tool call, structured output, embedding."""

from expected import CHAT, EMBED, QUESTION, TOOLS, URL, check_call, check_vectors, get_weather
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

SERVER = {"base_url": f"{URL}/v1", "api_key": "x", "max_retries": 0}


class Person(BaseModel):
    """A person."""

    name: str
    age: int


chat = ChatOpenAI(model=CHAT, temperature=0, max_tokens=12, **SERVER)
reply = chat.invoke("Say hello.")
assert reply.content
assert reply.usage_metadata["input_tokens"] == 12
assert "".join(chunk.content for chunk in chat.stream("Say hello.")) == reply.content

caller = ChatOpenAI(model=TOOLS, temperature=0, max_tokens=60, **SERVER)
free = caller.bind_tools([tool(get_weather)]).invoke(QUESTION)
check_call(free.tool_calls[0]["name"], free.tool_calls[0]["args"])
forced = caller.bind_tools([tool(get_weather)], tool_choice="any", parallel_tool_calls=False).invoke(QUESTION)
check_call(forced.tool_calls[0]["name"], forced.tool_calls[0]["args"])
streamed = None
for chunk in caller.bind_tools([tool(get_weather)]).stream(QUESTION):
    streamed = chunk if streamed is None else streamed + chunk
check_call(streamed.tool_calls[0]["name"], streamed.tool_calls[0]["args"])
person = ChatOpenAI(model=CHAT, temperature=0, max_tokens=60, **SERVER).with_structured_output(Person)
assert isinstance(person.invoke("Ann is 30 years old."), Person)

vectors = OpenAIEmbeddings(model=EMBED, check_embedding_ctx_length=False, **SERVER)
check_vectors(vectors.embed_query("Hello world"), vectors.embed_documents(["Hello world", "Something else"]))
