"""Turns runs into what is read: evidence, weights with cards, tables, figures, the README. Start at `records.py`."""

from utils.report.records import load_evidence

__all__ = ["load_evidence"]
