"""The `tf.distribute` strategy: which one, on what, and what its workers agree on."""
