"""Chooses how each gradient is exchanged between the replicas."""
