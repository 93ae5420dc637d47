"""How a chat becomes a prompt. Pure; `inference/` calls it.

gorender          messages → prompt, through a Go template
fit               history and prompt → the context window
generic_tools     tools for models that have none of their own
toolformat        how a model's template writes tool calls
"""
