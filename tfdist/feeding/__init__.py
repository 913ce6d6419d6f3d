"""The data given to `fit` → global batches, epochs, shares of replicas."""
