"""Brings publishers' files into `raw/`: fetching, unpacking, and one layout a publisher. Start at `layouts.py`."""
