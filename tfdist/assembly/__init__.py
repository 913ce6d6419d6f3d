"""A `RunConfig` → strategy, sources, model, callbacks, results."""
