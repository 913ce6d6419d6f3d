"""Measures the parts of a step, each alone."""
