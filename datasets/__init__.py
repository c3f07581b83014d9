"""Catalogue, download, packing, curation and reading of data sets. Start at `catalog.py`, then `download.py`."""
