"""Chooses the `tf.distribute` strategy and its devices, and exchanges numbers between its workers."""
