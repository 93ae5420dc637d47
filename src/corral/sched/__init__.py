"""Which runners exist and who may use them: pure decisions (policy.py), memory arithmetic, and the task that acts."""
