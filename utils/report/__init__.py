"""Turns runs into what is read: evidence, weights with cards, tables, figures, the README. Start at `records.py`."""

from utils.report.records import history, load_evidence, predictions, record, validation

__all__ = ["history", "load_evidence", "predictions", "record", "validation"]
