"""Catalogue, download, preprocessing and reading of the image sets. Start at `catalog.py`, then `download.py`."""
