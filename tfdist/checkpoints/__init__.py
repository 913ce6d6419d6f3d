"""Writes, checks and restores the checkpoints of a run."""
