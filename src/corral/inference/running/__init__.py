"""One run of the engine: sampling fields, prefill beside others, its events read, counted and ended."""
