"""What a run is told, as frozen data that is checked once."""

# Rows of a step over all replicas, where no one says how many: Keras' own default.
DEFAULT_GLOBAL_BATCH = 32
