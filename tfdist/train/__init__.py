"""`python -m tfdist.train`: flags or a recipe in, a trained model and a run's folder out."""
