"""The options of a run, as frozen data that is checked once."""

# Rows of a step over all replicas, where no option sets them: Keras' own default.
DEFAULT_GLOBAL_BATCH = 32
