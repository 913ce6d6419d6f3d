"""Exit codes, errors, versions, the log, heartbeats, fault injection, and child processes. No TensorFlow."""
