"""Private functions of Keras that tfdist replaces while a step is traced."""
