"""Training of any model by any recipe. Start at `loop.py`; `tasks/base.py` says what a task is."""
