"""Private names of Keras and TensorFlow that tfdist reads."""
