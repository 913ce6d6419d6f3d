"""`python -m tfdist.doctor --acceptance`: proves tfdist on this machine, and writes one page about it."""
