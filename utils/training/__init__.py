"""Training: `loop.py` first, then `tasks.py` for what is learned and `checkpoint.py` for exact resume."""
