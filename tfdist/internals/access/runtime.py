"""Reads the state of TensorFlow's runtime, and sets what must be set before it starts."""

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context
from tensorflow.python.framework import config, kernels


def has_started():
    """Returns whether TensorFlow's runtime has started, after which devices cannot be configured."""
    return context.context()._initialized


def collectives_configured():
    """Returns whether a multi-worker strategy was made in this process already; another one may then follow."""
    return context.context()._collective_leader is not None


def is_deterministic():
    """Returns whether TensorFlow's deterministic kernels are enabled."""
    return bool(config.is_op_determinism_enabled())


def seed():
    """Returns the seed that `keras.utils.set_random_seed` or `tf.random.set_seed` has set; None without one."""
    return context.global_seed()


def has_kernel(op):
    """Returns whether this build of TensorFlow has a kernel for an operation, on any device."""
    return bool(kernels.get_registered_kernels_for_op(op).kernel)


def is_on_cpus(strategy):
    """Returns whether all replicas of this worker are CPUs, logical or not."""
    return all("CPU" in device.upper() for device in devices_of(strategy))


def devices_of(strategy):
    """Returns the names of the devices of this worker's replicas."""
    try:
        return strategy.extended.worker_devices
    except RuntimeError:
        # No strategy was chosen: TensorFlow's default one has no devices of its own.
        return ("GPU:0",) if tf.config.get_visible_devices("GPU") else ("CPU:0",)


def set_bytes_per_string(size):
    """Sets the bytes of each string into which a worker copies what it sends; call it before the runtime starts.

    No public function sets it, and TensorFlow's own 4096 mean a thousand allocations for 4 MiB.
    """
    own = context.context()
    own._config = own._config or config_pb2.ConfigProto()
    own._config.experimental.recv_buf_max_chunk = size
