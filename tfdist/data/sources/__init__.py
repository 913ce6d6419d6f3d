"""One file a kind of data: what makes a `Source`."""
