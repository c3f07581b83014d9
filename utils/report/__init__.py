"""Turns runs into what is read: evidence, weights with cards, tables, figures, the README. Start at `records.py`."""

__all__ = ["load_evidence"]


def __getattr__(name: str) -> object:
    if name != "load_evidence":
        raise AttributeError(f"module 'utils.report' has no attribute '{name}'")
    from utils.report.records import load_evidence  # here: who loads weights alone need not wait for what trains

    return load_evidence
