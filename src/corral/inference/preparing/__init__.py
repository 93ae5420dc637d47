"""What is settled before a model is loaded: checks, options, images, the way a chat takes, the lease."""
