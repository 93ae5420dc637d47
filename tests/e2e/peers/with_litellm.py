"""LiteLLM over its three ways to us: ollama_chat, openai and anthropic."""

import json

import litellm
from expected import CHAT, EMBED, QUESTION, TOOLS, URL, check_call, check_vectors

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WAYS = {
    "ollama_chat": {"api_base": URL},
    "openai": {"api_base": f"{URL}/v1", "api_key": "x"},
    "anthropic": {"api_base": URL, "api_key": "x"},
}
HELLO = [{"role": "user", "content": "Say hello."}]
ASK = [{"role": "user", "content": QUESTION}]

for way, server in WAYS.items():
    common = {"temperature": 0, "num_retries": 0, **server}
    reply = litellm.completion(f"{way}/{CHAT}", HELLO, max_tokens=12, **common)
    assert reply.choices[0].message.content, way
    assert reply.usage.prompt_tokens == 12, (way, reply.usage)
    chunks = litellm.completion(f"{way}/{CHAT}", HELLO, max_tokens=12, stream=True, **common)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == reply.choices[0].message.content, (way, text)
    called = litellm.completion(f"{way}/{TOOLS}", ASK, tools=[WEATHER], max_tokens=60, **common)
    call = called.choices[0].message.tool_calls[0].function
    check_call(call.name, json.loads(call.arguments))

texts = ["Hello world", "Something else"]
for way, more in (("ollama", {"api_base": URL}), ("openai", {**WAYS["openai"], "encoding_format": "float"})):
    found = [litellm.embedding(f"{way}/{EMBED}", input=wanted, **more) for wanted in (texts[:1], texts)]
    one, many = ([item["embedding"] for item in each.data] for each in found)
    check_vectors(one[0], many)
