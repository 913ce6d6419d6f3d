"""The cluster of a run: TF_CONFIG, schedulers, the rendezvous of the workers. No TensorFlow."""
