"""A `RunConfig` → model, sources, callbacks, results."""
