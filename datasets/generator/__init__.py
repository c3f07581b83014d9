"""The phantom: tumours grown in a head template, scanned, with planted faults. Start at `phantom.py`."""
