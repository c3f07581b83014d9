"""Analyses beyond a single score: shortcuts, distribution shift, embeddings, ablation, hyperparameter search."""
