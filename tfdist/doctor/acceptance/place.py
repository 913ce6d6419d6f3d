"""`python -m tfdist.doctor.acceptance.place NAME`: a child process that trains in one place and answers requests.

NAME is "oracle" (plain Keras on one CPU device), "machine" (tfdist on the strategy of this machine) or "split" (tfdist
on two logical devices of one GPU, or of the CPU). A crash or a hang is an answer for the parent.
"""

import functools
import sys

import keras
import tensorflow as tf

from tfdist.doctor.acceptance import kinds, loops_speed
from tfdist.doctor.acceptance.checks import MACHINE, ORACLE, SPLIT
from tfdist.internals.access import tpu
from tfdist.process.child import serve
from tfdist.strategy.choose import choose_strategy

# MiB of each logical GPU: enough for the kernels of small models, and little enough for two on a small card.
_LOGICAL_GPU = 2048
# The oldest compute capability with TF32.
_TF32 = (8, 0)
# What a library is called → its key in TensorFlow's build info.
_LIBRARIES = {"CUDA": "cuda_version", "cuDNN": "cudnn_version", "ROCm": "rocm_version"}


class TrainingPlace:
    """A place in which models are trained.

    Args:
        name: "oracle", "machine" or "split".
    """

    def __init__(self, name):
        self._name = name

    @functools.cached_property
    def _loops(self):
        # At the first request, so that an error of the strategy is an answer.
        return {ORACLE: _open_oracle, MACHINE: _open_machine, SPLIT: _open_split}[self._name]()

    def about(self):
        """Returns the strategy and the devices."""
        strategy = self._loops.strategy
        details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
        build = tf.sysconfig.get_build_info()
        return {
            "strategy": type(strategy).__name__.removesuffix("V1"),
            "replicas": strategy.num_replicas_in_sync,
            "gpus": [str(detail.get("device_name", "GPU")) for detail in details],
            "tf32": any(detail.get("compute_capability", (0, 0)) >= _TF32 for detail in details),
            "tpu": tpu.is_tpu(strategy),
            "libraries": [f"{name} {build[key]}" for name, key in _LIBRARIES.items() if details and build.get(key)],
        }

    def train(self, kind, policy="float32", tf32=False, **arguments):
        """Runs a kind of `kinds` with a dtype policy of Keras; returns name → numbers."""
        # Off, because half of TF32's digits would hide what float32's show.
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
        keras.config.set_dtype_policy(policy)
        return kinds.KINDS[kind](self._loops, **arguments)

    def speed(self, loops):
        """Measures loops of `loops_speed` in turns; returns name → rows per second."""
        return loops_speed.rows_per_second(loops, self._loops.strategy)

    def answer(self, request):
        """Runs the method that a request names, and returns its result."""
        return {"about": self.about, "train": self.train, "speed": self.speed}[request.pop("do")](**request)


def _open_oracle():
    tf.config.set_visible_devices([], "GPU")
    return kinds.keras_loops()


def _open_machine():
    return kinds.tfdist_loops(choose_strategy(alone=True))


def _open_split():
    if gpus := tf.config.list_physical_devices("GPU"):
        tf.config.set_visible_devices(gpus[:1], "GPU")
        halves = [tf.config.LogicalDeviceConfiguration(memory_limit=_LOGICAL_GPU)] * 2
        tf.config.set_logical_device_configuration(gpus[0], halves)
    return kinds.tfdist_loops(choose_strategy("mirrored", replicas=2, alone=True))


if __name__ == "__main__":
    serve(TrainingPlace(sys.argv[1]).answer)
