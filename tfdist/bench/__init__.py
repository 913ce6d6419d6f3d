"""What `python -m tfdist.bench` is made of: contenders, rounds, a table, a report, comparisons."""
