"""`python -m tfdist.launch`: starts, watches and restarts the workers of a run, on this machine or over ssh."""
