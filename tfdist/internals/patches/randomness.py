"""Makes Keras' random layers draw different numbers on each replica."""

import keras
import tensorflow as tf

from tfdist.internals.access.dependence import note_differing
from tfdist.internals.access.replica import current_rows, swapped

_next = keras.random.SeedGenerator.next

# An odd number far from 1, so that the seeds of replicas differ from those of later steps.
_STRIDE = 0x61C88647


def replicas_differ():
    """Makes seed generators return a different seed on each replica, and Keras' own on the first."""
    return swapped((keras.random.SeedGenerator, "next", next_seed))


def next_seed(self, ordered=True):
    """Stands in for `keras.random.SeedGenerator.next`; the state advances equally on all replicas."""
    seed = _next(self, ordered)
    context = tf.distribute.get_replica_context()
    if current_rows() is None or context is None:
        return seed
    replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
    seed = tf.add(seed, replica * tf.constant([_STRIDE, 0], seed.dtype))
    note_differing([seed])
    return seed
