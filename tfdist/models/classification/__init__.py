"""Models that classify, by name."""
