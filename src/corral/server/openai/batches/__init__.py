"""OpenAI's batches: files of requests that are answered when nobody else wants anything. ADR 28."""
