"""Exit codes, errors, the log, heartbeats, fault injection, and child processes. No TensorFlow."""
