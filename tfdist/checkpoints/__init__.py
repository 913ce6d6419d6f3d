"""Checkpoints: what is saved, and how it is made whole."""
