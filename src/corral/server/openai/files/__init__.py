"""OpenAI's files: what clients upload for batches, and what batches write for them."""
