"""The most memory that a process or its GPUs have held."""

import resource
import sys

import tensorflow as tf


def peak_bytes():
    """Gives the most that this process has held; with GPUs, the most that one of them has."""
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if gpus:
        return max(tf.config.experimental.get_memory_info(name.split("device:")[-1])["peak"] for name in gpus)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux KiB.
    return largest if sys.platform == "darwin" else largest * 1024
