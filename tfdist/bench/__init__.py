"""Implements `python -m tfdist.bench`: contenders, rounds, a table, a report, comparisons."""
