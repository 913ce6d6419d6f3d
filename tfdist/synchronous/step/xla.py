"""Decides whether XLA compiles gradients or whole calls: where it can, and where it was measured to be faster."""

import math

import keras
import tensorflow as tf

from tfdist.internals.access import models, runtime, tpu
from tfdist.internals.access.collectives import BYTES_PER_PACK
from tfdist.internals.access.coupling import coupling_of
from tfdist.options.step import AUTO
from tfdist.process.log import warn

# Speed with XLA for the gradients ÷ without, 64 rows, two cores, TensorFlow 2.21: an LSTM 2.1, attention 1.2, dense
# layers alone 0.7 to 1.0, convolutions 0.4, because TensorFlow's own kernels (oneDNN) are faster there.
_FASTER_ON_CPUS = (
    keras.layers.RNN,
    keras.layers.LSTM,
    keras.layers.GRU,
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)
# XLA returns all gradients at once, so none is sent to the other workers while the next is computed. Recurrent layers
# have theirs only at the end anyway, and gradients of one pack are sent together anyway.
_GRADIENTS_AT_THE_END = (keras.layers.RNN, keras.layers.LSTM, keras.layers.GRU)
# The same for whole calls, 16 to 256 rows: dense layers of 64 to 2048 units, any activation, with these normalizations
# or none, 1.0 to 1.7; with Dropout 0.1 to 0.5, because XLA draws random numbers slowly there.
_FASTER_IN_WHOLE_CALLS = (
    keras.layers.InputLayer,
    keras.layers.Dense,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Flatten,
    keras.layers.Reshape,
)
_MOST_ROWS_OF_WHOLE_CALLS = 256


def resolve(model, wish, feed):
    """Decides whether a model's training is compiled by XLA.

    Args:
        model: a compiled, built `keras.Model`.
        wish: as `StepOptions.jit_compile`.
        feed: the `Feed` that the model is trained on.

    Returns:
        True or False.
    """
    if tpu.is_tpu(model.distribute_strategy):
        # A TPU compiles the whole step, with its collectives, which a compiled part of it could not hold.
        return False
    if wish is None:
        return bool(model.jit_compile)
    if runtime.is_deterministic():
        if wish is True:
            warn("jit_compile=True has no effect: deterministic kernels are requested, and XLA guarantees none.")
        return False
    return wish is True or (wish == AUTO and why_not(model, feed) is None)


def why_not(model, feed):
    """Returns why "auto" does not use XLA; None if it was measured to be faster."""
    strategy = model.distribute_strategy
    if model.run_eagerly:
        return "the model runs eagerly"
    if models.has_own(model, "train_step"):
        return "the model has a train_step of its own"
    if strategy.num_replicas_in_sync > 1 and (reason := _why_not_on_replicas(model)):
        return reason
    if not runtime.is_on_cpus(strategy):
        return _why_not_on_gpus(model)
    if _is_faster_in_whole_calls(model, feed):
        return None
    return _why_not_on_cpus(models.layers(model)) or _why_not_between_workers(model)


def _why_not_on_replicas(model):
    if synchronized := [layer.name for layer in models.batch_norms(model) if layer.synchronized]:
        return f"layer {synchronized[0]!r} takes its statistics over all replicas"
    if models.counts_over_replicas(model):
        return "the loss divides by weights or unmasked elements of all replicas"
    return "replicas exchange the rows of a loss or a layer" if coupling_of(model).exchanges else None


def _why_not_on_gpus(model):
    """Returns why not where Keras' own `fit` would not compile either; see docs/decisions/devices.md."""
    if model.distribute_strategy.num_replicas_in_sync > 1:
        return "it was not measured on several GPUs"
    return None if models.supports_jit(model) else "Keras does not compile a layer of the model"


def _is_faster_in_whole_calls(model, feed):
    if model.distribute_strategy.num_replicas_in_sync > 1 or not feed.is_in_memory:
        return False
    if feed.global_batch > _MOST_ROWS_OF_WHOLE_CALLS:
        return False
    # Not their subclasses: what a user's own layer or model does is its own.
    return models.is_graph(model) and all(
        type(layer) in _FASTER_IN_WHOLE_CALLS or models.is_graph(layer) for layer in models.layers(model)
    )


def _why_not_on_cpus(layers):
    for layer in layers:
        if hasattr(layer, "kernel_size") or hasattr(layer, "pool_size"):
            return f"layer {layer.name!r} is faster without it on CPUs"
    if not any(isinstance(layer, _FASTER_ON_CPUS) for layer in layers):
        return "no layer was seen to be faster with it on CPUs"
    return None


def _why_not_between_workers(model):
    if not isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return None
    size = sum(math.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in model.trainable_variables)
    if size <= BYTES_PER_PACK or any(isinstance(layer, _GRADIENTS_AT_THE_END) for layer in models.layers(model)):
        return None
    return "gradients must be sent to the other workers while the next are computed"


def compiles_calls(model, options):
    """Returns whether calls on rows in memory are compiled whole, not the gradients alone.

    Args:
        model: a compiled `keras.Model`.
        options: `StepOptions` whose `jit_compile` is resolved.
    """
    strategy = model.distribute_strategy
    # On a GPU, a loop within XLA's program would wait for the device before each step.
    one_cpu = strategy.num_replicas_in_sync == 1 and runtime.is_on_cpus(strategy)
    return one_cpu and options.jit_compile and not model.run_eagerly and not models.has_own(model, "train_step")


def describe(model, feed, options):
    """Returns a phrase that states what XLA compiles for a `Feed`; `options` as in `compiles_calls`."""
    if model.run_eagerly:
        return "run eagerly."
    if tpu.is_tpu(model.distribute_strategy):
        return "the whole step compiled by XLA, as a TPU needs."
    if not options.jit_compile:
        return "without XLA."
    if models.has_own(model, "train_step"):
        return "without XLA: jit_compile does not apply to the model's own train_step, whose update is shared."
    whole = compiles_calls(model, options) and feed.is_in_memory
    return f"{'whole calls' if whole else 'gradients'} compiled by XLA."
