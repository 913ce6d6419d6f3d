"""TensorFlow's runtime: whether it has started, what it works on, and what it can only be told before."""

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context
from tensorflow.python.framework import config


def has_started():
    """Says whether TensorFlow's runtime has started, after which devices cannot be configured."""
    return context.context()._initialized


def collectives_configured():
    """Says whether a multi-worker strategy was made in this process already; another one may then follow."""
    return context.context()._collective_leader is not None


def is_deterministic():
    """Says whether TensorFlow's deterministic kernels are asked for."""
    return bool(config.is_op_determinism_enabled())


def is_on_cpus(strategy):
    """Says whether all replicas of this worker are CPUs, logical or not."""
    try:
        devices = strategy.extended.worker_devices
    except RuntimeError:
        # No strategy was chosen: TensorFlow's default one has no devices of its own.
        return not tf.config.list_physical_devices("GPU")
    return all("CPU" in device.upper() for device in devices)


def send_in_strings_of(size):
    """Sets how many bytes each string has into which a worker copies what it sends; before the runtime starts.

    Nothing public sets it, and TensorFlow's own 4096 mean a thousand allocations for 4 MiB.
    """
    own = context.context()
    own._config = own._config or config_pb2.ConfigProto()
    own._config.experimental.recv_buf_max_chunk = size
