"""TensorFlow's kernels in place of Keras' arithmetic, on CPUs."""
