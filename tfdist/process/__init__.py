"""What every process of tfdist has: exit codes, errors, the log, heartbeats, fault injection. No TensorFlow."""
