"""Making kernels for this processor from the pinned engine's own sources, and proving them before anybody uses them.

Called by `corral engine` and, while a server is idle, by it. What is made here is used by runner/kernels.py.
"""
