"""The native (Ollama) API: one resource a file, each handler decode → call → encode."""
