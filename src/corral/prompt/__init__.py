"""Requests to prompts, and the model's text back to content, thinking and tool calls. Pure; `inference/` calls it.

gorender                                  messages → prompt, through a Go template
thinking, toolcalls, harmony, outputs     text → thinking, content, tool calls
fit                                       history and prompt → the context window
constraint, schema, grammar               what the text must match → the engine's fields
generic_tools                             tools for models that have none of their own
"""
