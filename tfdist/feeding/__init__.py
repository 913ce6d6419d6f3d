"""What `fit` was given → global batches, epochs, shares of replicas."""
