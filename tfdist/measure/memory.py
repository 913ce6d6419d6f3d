"""Measures the peak memory of a process or its GPUs."""

import resource
import sys

import tensorflow as tf


def peak_bytes():
    """Returns the peak memory of this process in bytes; with GPUs, the highest peak of one of them."""
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if gpus:
        return max(tf.config.experimental.get_memory_info(name.split("device:")[-1])["peak"] for name in gpus)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux KiB.
    return largest if sys.platform == "darwin" else largest * 1024
