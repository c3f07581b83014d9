"""Finds duplicates and patients, and makes `datasets/splits/` of them: `python -m datasets.curation NAME… --write`."""
