"""The functions that make a `Source`, one file per kind of data."""
