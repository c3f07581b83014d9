"""What stands between the notebooks and the models: recipes, tasks, training, evaluation, figures, runs."""
