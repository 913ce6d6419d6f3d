"""One page about a run, or about several beside each other, made from their folders."""
