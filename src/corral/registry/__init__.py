"""Models from and to elsewhere: Ollama and OCI registries, Hugging Face, package indexes. `Registry` is the door."""
