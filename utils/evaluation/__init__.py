"""What a trained model is worth: predictions, metrics, intervals, and what it is compared with."""
