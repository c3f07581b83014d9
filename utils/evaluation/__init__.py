"""Evaluation of a trained model: predictions, metrics with intervals, baselines. Start at `predict.py`."""
