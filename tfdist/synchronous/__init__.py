"""Synchronous training: all replicas take each step together."""
