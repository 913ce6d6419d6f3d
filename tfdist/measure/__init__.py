"""The parts of a step, each measured alone."""
