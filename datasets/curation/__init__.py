"""Who is in the test set twice: `python -m datasets.curation NAME… --write` makes `datasets/splits/`."""
