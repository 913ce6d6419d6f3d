"""Private functions of Keras that are replaced while a step is traced."""
