"""Catalogue, download, packing, curation and reading of image sets. Start at `catalog.py`, then `download.py`."""
