"""Private names of Keras and TensorFlow that are read."""
