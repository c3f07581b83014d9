"""Training of any model by any recipe. Start at `loop.py`; `tasks.py` says what is learned."""
