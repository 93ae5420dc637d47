"""Runner processes: one child per loaded model, spoken to over a Unix socket. Entry points: launch.py, handle.py."""
