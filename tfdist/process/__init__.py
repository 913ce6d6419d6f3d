"""Exit codes, errors, the log, heartbeats and fault injection, for every process of tfdist. No TensorFlow."""
