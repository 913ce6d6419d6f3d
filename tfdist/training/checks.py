"""Refuses, before a run starts, what would make it wrong or puzzling."""

import contextlib
import functools
import os
import types

import keras
import tensorflow as tf

from tfdist.cluster.environments.readers import read_cluster
from tfdist.internals.access import callbacks, models, moving, runtime
from tfdist.internals.access.coupling import coupling_of
from tfdist.internals.patches import keras_calls
from tfdist.process.errors import UsageError
from tfdist.strategy import chosen
from tfdist.strategy.workers import Workers
from tfdist.synchronous.step import labels
from tfdist.training.callback_list import runs_on_every_worker


def move(model, strategy, method):
    """Moves a model of one replica into a strategy, in which it stays; does nothing without one.

    Args:
        model: a `keras.Model`.
        strategy: a `tf.distribute.Strategy`, or None.
        method: the function that was called, for messages.

    Raises:
        ValueError: it is no strategy, or the model cannot be moved; the message names the line to move instead.
    """
    if strategy is None or model.distribute_strategy is strategy:
        return
    if not isinstance(strategy, tf.distribute.Strategy):
        raise UsageError(
            f"tfdist.{method}: strategy is {strategy!r}. Give a strategy, such as tfdist.choose_strategy('mirrored')."
        )
    instead = "Move the lines that make the model and call model.compile into `with strategy.scope():` instead."
    if model.distribute_strategy.num_replicas_in_sync > 1:
        raise UsageError(f"tfdist.{method}: the model is in another strategy of several replicas already. {instead}")
    if what := moving.unmovable(model):
        raise UsageError(f"tfdist.{method}: {what}, which strategy= cannot move. {instead}")
    moving.move_model(model, strategy)


def check_compiled(model, method):
    """Refuses a model that is not compiled.

    Raises:
        ValueError: `compile` was not called.
    """
    if not models.is_compiled(model):
        raise UsageError(
            f"tfdist.{method}: the model is not compiled. Call model.compile(optimizer, loss) in the scope first."
        )


def check_fit(model):
    """Refuses a model that is not compiled, has a loop of its own, or would train alone beside others.

    Raises:
        ValueError: the message says what to change.
    """
    check_compiled(model, "fit")
    check_loop(model, "train")
    check_layers(model)
    _check_metrics(model)
    check_not_alone(model.distribute_strategy)
    check_all_workers_call(model.distribute_strategy, "tfdist.fit")
    # Where such a model is built, TensorFlow would refuse it in words of its own.
    _check_scope(model)


def check_evaluate(model):
    """Refuses a model that is not compiled, or cannot be evaluated on several replicas.

    Raises:
        ValueError: the message says what to change.
    """
    check_compiled(model, "evaluate")
    check_all_workers_call(model.distribute_strategy, "tfdist.evaluate")
    check_layers(model)
    _check_metrics(model)


def check_one_pass(model, epochs, data, steps, frequency):
    """Refuses a generator for more than one validation, because what it has yielded is gone after the first.

    Args:
        model: a `keras.Model`.
        epochs: the range of the epochs.
        data, steps, frequency: `validation_data`, `validation_steps` and `validation_freq` of `fit`.

    Raises:
        ValueError: the message says how often it would be read.
    """
    if not isinstance(data, types.GeneratorType) or steps:
        return
    passes = sum(models.should_validate(model, epoch, frequency) for epoch in epochs)
    if passes > 1:
        raise UsageError(
            f"validation_data is a generator, which can be read once, but this fit reads it to its end {passes} times. "
            "Give validation_steps, so that each pass goes on where the last one ended, or data that can be read "
            "again: arrays, a keras.utils.PyDataset, a tf.data.Dataset, or a tfdist Source."
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


def chief_calls_checked(strategy):
    """Returns a context in which a callback of the chief alone cannot make the others wait for it, and it for them."""
    if Workers.of(strategy).count == 1:
        return contextlib.nullcontext()
    return keras_calls.checked(functools.partial(check_all_workers_call, strategy))


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


def _check_metrics(model):
    """Refuses a metric with a state of type bool, which TensorFlow cannot read from several replicas."""
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return
    for metric in models.all_metrics(model):
        if any(keras.backend.standardize_dtype(variable.dtype) == "bool" for variable in metric.variables):
            raise UsageError(
                f"metric {metric.name!r} has a state of type bool, which TensorFlow cannot combine over "
                f"{model.distribute_strategy.num_replicas_in_sync} replicas. Use 0 and 1 of type int32."
            )


def check_not_alone(strategy, environ=os.environ):
    """Refuses a model on one device where there are more: in several processes, each would train a model of its own.

    Args:
        strategy: the model's `tf.distribute.Strategy`.
        environ: the environment variables, which describe the cluster.

    Raises:
        ValueError: the message says where to make the model.
    """
    if Workers.of(strategy).count > 1:
        return
    _check_devices(strategy)
    if chosen.is_alone():
        return
    cluster = read_cluster(environ)
    if cluster and cluster.size > 1:
        raise UsageError(
            f"{cluster.source} lists {cluster.size} workers, but the model was made outside the scope of their "
            f"strategy, so each worker would train a model of its own. Make it in `with strategy.scope():` of "
            "tfdist.choose_strategy(), or start the process without the cluster to train alone."
        )


def _check_devices(strategy):
    """Refuses a model that was made outside every scope though `choose_strategy` has chosen several replicas."""
    last = chosen.last_strategy()
    if last is None or last.num_replicas_in_sync == 1 or strategy is not tf.distribute.get_strategy():
        return
    if not tf.distribute.has_strategy():
        raise UsageError(
            f"the model was made outside strategy.scope(), so it would train on one device, but choose_strategy chose "
            f"{last.num_replicas_in_sync} replicas. Move the lines that make the model and call model.compile into "
            "`with strategy.scope():`, or give fit strategy=strategy, which moves the model there."
        )


def check_training(model, strategy, options):
    """Refuses a model that XLA cannot compile.

    Args:
        model: a compiled, built `keras.Model`.
        strategy: its `tf.distribute.Strategy`.
        options: `StepOptions` whose `jit_compile` is resolved.

    Raises:
        ValueError: the message names the layer or the loss, and what to change.
    """
    synchronized = [layer.name for layer in models.batch_norms(model) if layer.synchronized]
    if options.jit_compile and synchronized and strategy.num_replicas_in_sync > 1:
        raise UsageError(
            f"jit_compile=True, but layer {synchronized[0]!r} takes its statistics over all replicas, and XLA cannot "
            "compile a collective. Use jit_compile=False, or sync_batchnorm=False."
        )
    if options.jit_compile and (coupled := _coupled(model)):
        raise UsageError(
            f"jit_compile=True, but {coupled[0]} couples rows, so the replicas exchange them, and XLA cannot compile a "
            "collective. Use jit_compile=False."
        )


def _coupled(model):
    """Returns phrases for the losses and layers that are computed from the rows of all replicas."""
    coupling = coupling_of(model)
    names = [loss.name for loss in models.compiled_losses(model)]
    layers = [f"the loss that layer {layer.name!r} adds" for layer in coupling.layers]
    joint = [f"layer {layer.name!r}" for layer in coupling.joint]
    return [*(f"loss {names[place]!r}" for place in coupling.losses), *layers, *joint]


def check_labels(model, feed, options):
    """Refuses labels that are not numbers of the model's classes where neither XLA nor a GPU would refuse them.

    Args:
        model: a compiled, built `keras.Model`.
        feed: the `Feed` that is trained on.
        options: `StepOptions` whose `jit_compile` is resolved.

    Raises:
        ValueError: the message has the label and the number of classes.
    """
    unchecked = options.jit_compile or not runtime.is_on_cpus(model.distribute_strategy)
    if unchecked and labels.has_class_numbers(model) and (rows := feed.rows_in_memory) is not None:
        labels.check_rows(model, rows, models.output_specs(model, feed.spec))


@contextlib.contextmanager
def label_errors():
    """Converts an error of TensorFlow's about labels, from within the step, to a `UsageError`."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if mistake := labels.read_error(error):
            raise mistake from None
        raise


def _check_scope(model):
    """Refuses a model on several replicas that has a variable on one device only; `build` makes the further ones."""
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return
    metrics = [variable for metric in models.all_metrics(model) for variable in metric.variables]
    owners = (
        ("the optimizer", models.optimizer_variables(model), "model.compile and the optimizer"),
        ("a metric", metrics, "model.compile and the metrics"),
        ("the model", model.variables, "the model"),
    )
    for owner, variables, line in owners:
        for variable in variables:
            if not isinstance(variable.value, tf.distribute.DistributedValues):
                raise UsageError(
                    f"{owner} was made outside strategy.scope(): its variable {variable.path!r} is on one device only. "
                    f"Move the lines that make {line} into `with strategy.scope():`."
                )
