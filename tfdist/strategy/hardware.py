"""Finds devices without starting TensorFlow's runtime, and sets what must be set before it starts."""

import os
import pathlib

import keras
import tensorflow as tf

import tfdist
from tfdist.cluster.cores import processors
from tfdist.internals.access import runtime
from tfdist.process.errors import StateError

_TPU_VARIABLES = (
    *("TPU_NAME", "COLAB_TPU_ADDR", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS"),
    *("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES"),
)
# The first is that of TPU v2 to v4 and v5p, the second that of v5e and v6e.
_TPU_FILES = ("accel[0-9]*", "vfio/[0-9]*")


def logical_gpus():
    """Counts the logical devices of each GPU that this process may use, without starting the runtime.

    Returns:
        A tuple with 1 for each whole GPU, and the number of its logical devices for one that the user has split.
    """
    configured = map(tf.config.get_logical_device_configuration, tf.config.get_visible_devices("GPU"))
    return tuple(len(devices or [None]) for devices in configured)


def tpu_signs(environ=os.environ, device_folder="/dev"):
    """Lists the signs of a TPU on this machine: variables, device files, a TensorFlow built for TPUs."""
    signs = [name for name in _TPU_VARIABLES if environ.get(name)]
    signs += sorted(str(path) for name in _TPU_FILES for path in pathlib.Path(device_folder).glob(name))
    if has_tpu_kernels():
        signs.append("a TensorFlow for TPUs")
    return signs


def has_tpu_kernels():
    """Returns whether the installed TensorFlow is built for TPUs, without starting the runtime."""
    return runtime.has_kernel("TPUExecute")


def logical_cpus(count):
    """Splits the CPU into logical devices, unless it is split already.

    Returns:
        The names "CPU:0", "CPU:1", … of `count` devices.

    Raises:
        RuntimeError: TensorFlow's runtime has started with fewer; only a new process can change that.
    """
    if not runtime.has_started():
        (cpu, *_) = tf.config.list_physical_devices("CPU")
        configured = tf.config.get_logical_device_configuration(cpu) or ()
        if len(configured) < count:
            devices = [tf.config.LogicalDeviceConfiguration()] * count
            tf.config.set_logical_device_configuration(cpu, devices)
        return [f"CPU:{index}" for index in range(count)]
    present = len(tf.config.list_logical_devices("CPU"))
    if present < count:
        raise StateError(
            f"strategy: mirrored needs {count} logical CPU devices, but TensorFlow has already started with {present}. "
            "Call tfdist.choose_strategy before anything else uses TensorFlow (in a notebook: restart the runtime and "
            "run that cell first)."
        )
    return [f"CPU:{index}" for index in range(count)]


def grow_gpu_memory():
    """Makes GPUs allocate memory only as they need it, unless the user has set how much they take.

    It has no effect once the runtime has started.
    """
    gpus = tf.config.get_visible_devices("GPU")
    # TensorFlow takes one setting for all GPUs, and none beside logical devices, which have limits of their own.
    is_set = [
        tf.config.get_logical_device_configuration(gpu) or tf.config.experimental.get_memory_growth(gpu) is not None
        for gpu in gpus
    ]
    if not runtime.has_started() and not any(is_set):
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)


def add_thread_for_exchange():
    """Sets a second inter-op thread in a process with one core, unless a number was requested.

    Call it before the runtime starts. A single thread runs what became ready last, the next gradient, so that complete
    gradients wait for their exchange until all gradients are computed.
    """
    asked = tf.config.threading.get_inter_op_parallelism_threads() or os.environ.get("TF_NUM_INTEROP_THREADS")
    if processors() == 1 and not logical_gpus() and not asked:
        tf.config.threading.set_inter_op_parallelism_threads(2)


def set_precision(name):
    """Sets Keras' global dtype policy; "float64" makes all numbers double precision, for comparisons."""
    keras.config.set_floatx("float64" if name == "float64" else "float32")
    keras.config.set_dtype_policy(name)


def set_seeds(seed, *, deterministic=False):
    """Seeds Python, NumPy, TensorFlow and Keras; `deterministic` also enables TensorFlow's deterministic kernels."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def numerics():
    """Returns what the last bits of a result depend on besides the run itself: versions, threads, kernels."""
    return {
        "tfdist": tfdist.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        # TensorFlow's 0 means as many threads as there are processors.
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads() or processors(),
        "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads() or processors(),
        "deterministic": runtime.is_deterministic(),
    }
