"""From a saved model to an answer about a new image: `python -m utils.predict`. `scans.py` reads, `model.py` predicts,
`familiarity.py` and the temperature of `evaluation/thresholds.py` say how far to believe it, `answers.py` writes it
down."""
