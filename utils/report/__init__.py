"""Turns runs into what is read: records, weights with cards, tables, figures, the README. Start at `records.py`."""
