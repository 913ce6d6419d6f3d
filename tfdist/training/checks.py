"""Refuses, before a run starts, what would make it wrong or puzzling."""

import os

import keras
import tensorflow as tf

from tfdist.cluster.tf_config import read_cluster
from tfdist.internals.access import callbacks, models
from tfdist.process.errors import UsageError
from tfdist.strategy.workers import Workers
from tfdist.training.callback_list import runs_on_every_worker


def check_compiled(model, method):
    """Refuses a model that is not compiled.

    Raises:
        ValueError: `compile` was not called.
    """
    if not models.is_compiled(model):
        raise UsageError(
            f"tfdist.{method}: the model is not compiled. Call model.compile(optimizer, loss) in the scope first."
        )


def check_loop(model, method):
    """Refuses a model with a loop of its own, which tfdist would not run.

    Args:
        model: a `keras.Model`.
        method: "train", "test" or "predict".

    Raises:
        ValueError: the message names the method and what to write instead.
    """
    if models.has_own(model, f"make_{method}_function"):
        raise UsageError(
            f"the model has a make_{method}_function of its own, which tfdist does not call because it runs its own "
            f"loop. Write what yours does as {method}_step."
        )


def check_all_workers_call(strategy, method):
    """Refuses a call in which every worker must take part, if a callback of the chief alone makes it.

    The others would wait for their next step, and the chief for them.

    Args:
        strategy: the `tf.distribute.Strategy`.
        method: the call's name, for the message.

    Raises:
        ValueError: the message names the callback and what to write in it.
    """
    if Workers.of(strategy).count == 1:
        return
    callback = callbacks.running()
    if callback is not None and not runs_on_every_worker(callback):
        raise UsageError(
            f"{method}: callback {type(callback).__name__} runs only on the chief, but every worker must take part in "
            f"{method}. Give the callback an attribute every_worker = True, or call {method} after fit."
        )


def check_layers(model):
    """Refuses layers that several replicas cannot compute as one device does.

    Raises:
        ValueError: the message names the layer and the cure.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return
    for layer in models.layers(model):
        if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional):
            raise UsageError(
                f"layer {layer.name!r} is stateful: it keeps a state for each row of a batch of one fixed size, but "
                f"each of {model.distribute_strategy.num_replicas_in_sync} replicas has another part of the rows. Use "
                "stateful=False, or train it on one replica: tfdist.choose_strategy('one_device')."
            )


def check_not_alone(strategy, environ=os.environ):
    """Refuses a model of one worker in a process that belongs to a cluster of several: each would train its own.

    Args:
        strategy: the model's `tf.distribute.Strategy`.
        environ: the environment variables, which describe the cluster.

    Raises:
        ValueError: the message says where to make the model.
    """
    if Workers.of(strategy).count > 1:
        return
    cluster = read_cluster(environ)
    if cluster and cluster.size > 1:
        raise UsageError(
            f"{cluster.source} lists {cluster.size} workers, but the model was made outside the scope of their "
            f"strategy, so each worker would train a model of its own. Make it in `with strategy.scope():` of "
            "tfdist.choose_strategy(), or start the process without the cluster to train alone."
        )


def check_training(model, strategy, options):
    """Refuses a model whose parts were not made in its strategy's scope, or that XLA cannot compile.

    Args:
        model: a compiled, built `keras.Model`.
        strategy: its `tf.distribute.Strategy`.
        options: `StepOptions` whose `jit_compile` is resolved.

    Raises:
        ValueError: the message names the part and the line to move or change.
    """
    if strategy.num_replicas_in_sync > 1:
        _check_scope(model)
    check_layers(model)
    synchronized = [layer.name for layer in models.batch_norms(model) if layer.synchronized]
    if options.jit_compile and synchronized and strategy.num_replicas_in_sync > 1:
        raise UsageError(
            f"jit_compile=True, but layer {synchronized[0]!r} takes its statistics over all replicas, and XLA cannot "
            "compile a collective. Use jit_compile=False, or sync_batchnorm=False."
        )


def _check_scope(model):
    owners = (
        ("the optimizer", models.optimizer_variables(model), "model.compile and the optimizer"),
        ("a metric", models.metric_variables(model), "model.compile and the metrics"),
        ("the model", model.variables, "the model"),
    )
    for owner, variables, line in owners:
        for variable in variables:
            if not isinstance(variable.value, tf.distribute.DistributedValues):
                raise UsageError(
                    f"{owner} was made outside strategy.scope(): its variable {variable.path!r} is on one device only. "
                    f"Move the lines that make {line} into `with strategy.scope():`."
                )
