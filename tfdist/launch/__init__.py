"""`python -m tfdist.launch`: starts, watches and restarts the workers of a run, here or over ssh."""
