"""The command line: one module a command, imported on first use; it talks to the server over HTTP."""
