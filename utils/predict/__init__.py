"""From a saved model to an answer about a new image: `prepare.py` reads, `model.py` predicts, `out_of_distribution.py`
and the temperature of `calibration.py` say how far to believe it, `verdict.py` answers."""
