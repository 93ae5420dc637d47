"""How a chat becomes a prompt. Pure; `inference/` calls it.

gorender          messages → prompt, through a Go template
fit               history and prompt → the context window
generic_tools     tools for models that have none of their own
renderers         prompts of models whose config names a renderer
govalues          JSON values and text as Go has them
toolschema        a tool's schema as Ollama decodes it
toolformat        how a model's template writes tool calls
"""
