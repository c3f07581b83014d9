"""Catalogue, download, preprocessing and reading of the image sets. Start at `catalog.py`; `download.py` is the only way in."""
