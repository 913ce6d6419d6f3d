"""Opens, saves and goes on with a run."""
