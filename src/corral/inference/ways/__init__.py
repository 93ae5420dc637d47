"""The two ways of running a chat: templated by the engine, with the GGUF's Jinja, or rendered here, as text.

conversation         `Conversation`, and `Way`, which both are
templated, messages  the engine makes the prompt and parses the answer
rendered, prompts, templates  Corral does (`prompt/`, `answer/`)
"""
