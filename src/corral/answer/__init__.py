"""How an answer is read: the model's text back to content, thinking and tool calls. Pure; `inference/` calls it.

outputs               the face of all parsers, and tags put together
thinking, toolcalls   text → thinking, content, tool calls, by the tags that a template shows
parsers/, harmony     the same by the parser's name in the model's config
jsontext              JSON as Go reads it, with Go's words for what is wrong
"""
