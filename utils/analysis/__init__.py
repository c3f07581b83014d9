"""Questions beyond one score: shortcuts, shift, embeddings, ablation, search."""
