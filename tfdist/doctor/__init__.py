"""What `python -m tfdist.doctor` looks at: facts are read in one place, and judged in another, purely."""
