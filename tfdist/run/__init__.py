"""A run's folder on disk. No TensorFlow."""
