"""OpenAI's Responses API: handlers, input items, the events of a stream, and kept responses."""
