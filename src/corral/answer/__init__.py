"""How an answer is read: the model's text back to content, thinking and tool calls. Pure; `inference/` calls it.

outputs                        the face of all parsers, and tags put together
thinking, toolcalls, harmony   text → thinking, content, tool calls
"""
