"""Trains and evaluates a model, with Keras' arguments and meaning."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.callbacks.desync import DesyncCheck
from tfdist.callbacks.screen import progress_lines
from tfdist.callbacks.xla_programs import kept_programs
from tfdist.feeding import plan
from tfdist.feeding.checks import check_lengths, limit
from tfdist.feeding.feed import open_feed
from tfdist.feeding.same_data import warn_where_workers_differ
from tfdist.internals.access import data_adapters, models
from tfdist.ops.refusals import as_usage_errors
from tfdist.options.checkpoints import CheckpointOptions
from tfdist.options.loop import LoopOptions
from tfdist.options.step import StepOptions
from tfdist.process.nearest import with_known_arguments
from tfdist.resume.decisions import Decisions
from tfdist.resume.saved_run import open_saved_run
from tfdist.strategy.workers import Workers
from tfdist.synchronous.step import xla
from tfdist.synchronous.step.batch_norms import batch_norms_as_wanted
from tfdist.synchronous.step.find_coupling import find_coupling, form_of, one_step_per_call
from tfdist.synchronous.step.programs import Programs
from tfdist.training import arguments, checks
from tfdist.training.call_length import set_call_length, set_test_call_length
from tfdist.training.callback_list import make_callback_list
from tfdist.training.fit_files import files_of_fit, finish
from tfdist.training.loss_watch import ends_on_nan
from tfdist.training.training_program import TrainingProgram


@with_known_arguments
def fit(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool | str = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: int | Sequence[int] = 1,
    *,
    steps: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    resume: str = "auto",
    checkpoint_every_steps: int | None = None,
    keep_checkpoints: int = 3,
    log_every_steps: int | None = None,
    resume_with_changes: bool = False,
    sync_batchnorm: bool = True,
    jit_compile: bool | str | None = None,
    exchange: str = "auto",
    compression: str = "none",
    steps_per_execution: int | str | None = None,
    on_nan: str = "stop",
    strategy: tf.distribute.Strategy | None = None,
) -> keras.callbacks.History:
    """Trains a compiled model on its strategy's replicas, as `keras.Model.fit` does on one device.

    No argument affects a later call, because nothing of it stays on the model.

    Args:
        model: a compiled `keras.Model`, made in the strategy's scope or moved there by `strategy`.
        x, y, sample_weight: a tfdist `Source`, or what Keras takes: nested arrays of shape (rows, ...), a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator of batches.
        batch_size: rows of a step over **all** replicas; 32 by default.
        epochs, verbose, callbacks, shuffle, class_weight, initial_epoch, steps_per_epoch: as in Keras.
        validation_split, validation_data, validation_steps, validation_batch_size, validation_freq: as in Keras.
        steps: the total number of steps, in place of `epochs`.
        run_dir: a folder for all that the run leaves: checkpoints, metrics, TensorBoard's events, the model, a summary.
            None to write nothing. Several workers need a folder that they share.
        resume: "auto" resumes from the newest whole checkpoint in `run_dir`, if there is one; "must" requires one;
            "never" requires an empty folder.
        checkpoint_every_steps: steps between checkpoints; None for one at the end of each epoch.
        keep_checkpoints: how many of the newest checkpoints stay, beside the best.
        log_every_steps: steps between lines in `metrics.jsonl`, and with `verbose=2` on the screen, within an epoch;
            None for lines at the end of each epoch alone.
        resume_with_changes: whether to go on from a checkpoint even if the data, the loss, or a setting of the model or
            the optimizer is not the one that wrote it; the new one counts.
        sync_batchnorm: whether BatchNormalization takes its statistics over the rows of all replicas, or on each
            replica over its own rows; it overrides the layers' own settings.
        jit_compile: None for the value given to `compile`; True to compile with XLA: whole calls on one replica, if the
            rows are arrays and XLA can, and otherwise the gradients; False; or "auto" for True where that was measured
            to be faster.
        exchange: how gradients are exchanged between the replicas: "all_reduce"; "factors" for those of dense layers;
            or "auto" for the faster one.
        compression: "bfloat16" or "float16" to round gradients to that type for the exchange (float16 keeps 3 bits more
            and needs a small collective more); or "none".
        steps_per_execution: the number of steps in one call of the compiled program; "auto" to measure and lengthen
            calls until they take about half a second; or None for the number given to `compile`, or "auto" if that is
            Keras' default of 1. With "auto", a callback of yours with batch methods keeps 1 step per call, and
            `ModelCheckpoint(save_freq=n)` at most n. With a number, such a callback is called once per call, with the
            call's last step, as in Keras.
        on_nan: "stop" to raise `NotFiniteError` with the step and the weight if the loss or a weight is NaN or
            infinite, and to keep the checkpoints from before; "warn" to log it and go on, as Keras does, without
            saving. With `keras.callbacks.TerminateOnNaN`, that callback ends the run.
        strategy: None, or a strategy into which a model that was made outside its scope is moved, to stay there.

    Returns:
        A `keras.callbacks.History`.

    Raises:
        ValueError: the model is not compiled or was not made in the scope, arguments contradict each other, or a
            checkpoint is of another model or other data, or none is whole (`CheckpointError`).
        ArithmeticError: the loss or a weight is NaN or infinite (`on_nan`).
        FileExistsError, FileNotFoundError: `run_dir` does not meet the condition of `resume`.
        OSError: a checkpoint cannot be written.

    Example:
        ```python
        import keras
        import numpy as np

        import tfdist

        strategy = tfdist.choose_strategy("mirrored", replicas=2)
        with strategy.scope():
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
            model.compile("sgd", "sparse_categorical_crossentropy")
        x = np.random.default_rng(0).normal(size=(100, 4))
        history = tfdist.fit(model, x, x[:, 0] > 0, batch_size=16, epochs=2, verbose=0)
        print(history.history["loss"])
        ```
    """
    options = StepOptions(
        exchange=exchange,
        compression=compression,
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
        sync_batchnorm=sync_batchnorm,
        on_nan=on_nan,
    )
    saving: dict[str, Any] = {"folder": run_dir, "every_steps": checkpoint_every_steps, "keep": keep_checkpoints}
    saving |= {"resume": resume, "resume_with_changes": resume_with_changes, "log_every_steps": log_every_steps}
    checkpoints = CheckpointOptions(**saving)
    length: dict[str, Any] = {"epochs": epochs, "steps": steps, "steps_per_epoch": steps_per_epoch}
    loop = LoopOptions(
        **length,
        batch_size=batch_size,
        initial_epoch=initial_epoch,
        validation_split=validation_split,
        validation_steps=validation_steps,
        validation_batch_size=validation_batch_size,
        validation_freq=validation_freq,
        shuffle=shuffle,
        verbose=verbose,
    )
    arguments.check_call(model, "fit", callbacks, class_weight)
    checks.move(model, strategy, "fit")
    return fit_with(model, (x, y, sample_weight, validation_data), loop, options, checkpoints, callbacks, class_weight)


@as_usage_errors()
def fit_with(model, data, loop, options, checkpoints, callbacks, class_weight=None, files=None):
    """Checks what `fit` was given, reads the data, and trains.

    Args:
        model, callbacks, class_weight: as for `fit`.
        data: (x, y, sample_weight, validation_data), as for `fit`.
        loop, options, checkpoints: the `LoopOptions`, `StepOptions` and `CheckpointOptions`.
        files: the `RunFiles` of a caller that writes the results itself; None to make them and to write the results.

    Returns:
        A `keras.callbacks.History`.
    """
    checks.check_fit(model)
    *rows, validation_data = data
    length = {"epochs": limit(loop.epochs, keras.config.max_epochs(), "epochs"), "steps": loop.steps}
    epochs_left = range(loop.initial_epoch, length["epochs"])
    checks.check_one_pass(model, epochs_left, validation_data, loop.validation_steps, loop.validation_freq)
    if loop.validation_split and validation_data is None:
        # Their parts would have other numbers of rows than the arrays that were given.
        check_lengths(*rows, "x")
        rows, validation_data = data_adapters.split_validation(*rows, loop.validation_split)
    order = {"steps": loop.steps_per_epoch, "shuffle": loop.shuffle, "class_weight": class_weight}
    validating = {"batch_size": loop.validation_batch_size or loop.batch_size, "steps": loop.validation_steps}
    with batch_norms_as_wanted(model, options):
        feed = open_feed(model, *rows, method="train_step", batch_size=loop.batch_size, **order)
        models.build(model, feed.spec)
        validate = _validator(model, validation_data, loop.validation_freq, **validating)
        length["first_epoch"] = loop.initial_epoch
        told = functools.partial(arguments.tell_what_has_no_effect, model, loop, checkpoints, feed)
        is_own = files is None
        files = files or files_of_fit(model, feed, loop, options, checkpoints)
        # A progress bar shows the same, and with `verbose=0` nothing is to be shown.
        every_steps = checkpoints.log_every_steps if loop.verbose == 2 else None
        shown = (callbacks, loop.verbose, progress_lines(every_steps))
        _fit(model, feed, options, checkpoints, length, shown, validate, told, files)
    if is_own:
        finish(model, files)
    return model.history


def _fit(model, feed, options, checkpoints, length, callbacks, validate, told, files):
    """Opens the run and trains; the length is the arguments of `Feed.spans`, `told` logs what has no effect."""
    strategy = model.distribute_strategy
    find_coupling(model, feed)
    options = dataclasses.replace(options, jit_compile=xla.resolve(model, options.jit_compile, feed))
    checks.check_training(model, strategy, options)
    checks.check_labels(model, feed, options)
    own, verbose, lines = callbacks
    options = dataclasses.replace(options, on_nan="warn") if ends_on_nan(own) else options
    warn_where_workers_differ(feed.data, strategy)
    with (
        set_call_length(model, options.steps_per_execution) as call_length,
        Workers.of(strategy).exit_on_peer_loss(),
        open_saved_run(model, feed, checkpoints, on_nan=options.on_nan) as run,
        contextlib.closing(feed),
        checks.label_errors(),
        checks.chief_calls_checked(strategy),
        files.ended(),
    ):
        if length["steps"] and feed.steps_per_epoch:
            length["epochs"] = -(-length["steps"] // feed.steps_per_epoch)
        more = [call_length, *lines, *files.callbacks, *_with_check(run.callbacks, DesyncCheck(strategy))]
        more += kept_programs() if options.jit_compile else []
        shown = {"epochs": length["epochs"], "steps": feed.steps_per_epoch}
        callbacks = make_callback_list(model, own, verbose, **shown, more=more, history=True)
        told()
        _train(model, feed, options, length, callbacks, validate, run, call_length, files)


def _with_check(callbacks, check):
    """Adds the comparison of the replicas behind what settles the chief's decisions, and before what saves."""
    place = max((number + 1 for number, item in enumerate(callbacks) if isinstance(item, Decisions)), default=0)
    return [*callbacks[:place], check, *callbacks[place:]]


def _train(model, feed, options, length, callbacks, validate, run, call_length, files):
    call_length.register_callbacks(callbacks.callbacks)
    training = TrainingProgram(model, feed, options, run, callbacks.callbacks, call_length)
    logs = {}
    model.stop_training = False
    callbacks.on_train_begin()
    epochs, total = feed.length(epochs=length["epochs"], steps=length["steps"])
    run.begin(callbacks.callbacks, total)
    files.begin(callbacks.callbacks, step=run.step, total=total, epochs=epochs, steps_per_epoch=feed.steps_per_epoch)
    # Read only now, because `keras.callbacks.BackupAndRestore` has just set the first epoch.
    length["first_epoch"] = models.first_epoch(model, length["first_epoch"])
    for span in run.spans(feed.spans(run.steps_done, **length)):
        model.reset_metrics()
        run.begin_epoch(span)
        callbacks.on_epoch_begin(span.epoch)
        training.renew()
        run.resume_epoch(span)
        calls = plan.calls(span, lambda: model.steps_per_execution, *training.ends, before=run.steps_before)
        look = functools.partial(training.watch.after_call, span, run.steps_before)
        logs, last = _run_epoch(model, training.call, feed, span, calls, callbacks, "train", training.hooks, look)
        training.watch.after_epoch(run.steps_before + last)
        training.announce_retracing()
        logs = logs | validate(span.epoch, callbacks)
        callbacks.on_epoch_end(span.epoch, logs)
        run.end_epoch(last)
        if model.stop_training:
            break
    if model.optimizer is not None:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    callbacks.on_train_end(logs)


def _run_epoch(model, program, feed, span, calls, callbacks, mode, hooks=(), look=None):
    """Runs the calls of one epoch of "train" or "test"; returns (the logs, the steps done since its beginning)."""
    begin, end = (getattr(callbacks, f"on_{mode}_batch_{when}") for when in ("begin", "end"))
    stopped = {"train": "stop_training", "test": "stop_evaluating"}[mode]
    reading = feed.begin(span)
    logs, done, ended = {}, 0, False
    for first, count in calls:
        begin(first)
        call_logs, call_done, measured = program(reading, count)
        if call_done or not done:
            logs = call_logs
        if look:
            look(first, call_done, call_logs, measured)
        done += call_done
        ended = call_done < count
        if call_done:
            for hook in hooks:
                hook(call_done, measured)
            end(first + call_done - 1, logs)
        if ended or getattr(model, stopped):
            break
    feed.end(span, done, ended=ended)
    return _numbers(logs), span.first + done


def _validator(model, data, frequency, *, batch_size, steps):
    """Returns a function (epoch, callbacks) → the logs of a validation, empty if none is due."""
    if data is None:
        return lambda epoch, callbacks: {}
    x, y, sample_weight = data_adapters.unpack(data)
    # Made only once, because making an input reads ahead in a generator and copies arrays.
    given = {"batch_size": batch_size, "steps": steps, "name": "validation_data"}
    feed = open_feed(model, x, y, sample_weight, method="test_step", **given)

    def validate(epoch, callbacks):
        if not models.should_validate(model, epoch, frequency):
            return {}
        return {f"val_{name}": value for name, value in _evaluate(model, feed, callbacks).items()}

    return validate


@with_known_arguments
def evaluate(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    verbose: int | str = "auto",
    sample_weight: Any = None,
    steps: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None = None,
    return_dict: bool = False,
    *,
    strategy: tf.distribute.Strategy | None = None,
) -> Any:
    """Computes loss and metrics over a whole data set, exactly, on any number of replicas.

    Args:
        model: a compiled `keras.Model`.
        x, y, sample_weight: a tfdist `Source`, or what Keras takes, as in `fit`.
        batch_size: rows of a step over all replicas; 32 by default.
        verbose, steps, callbacks, return_dict: as in Keras.
        strategy: as in `fit`.

    Returns:
        A dict of numbers with `return_dict=True`; else a number, or a list in the order of `model.metrics`.

    Example:
        ```python
        import keras
        import numpy as np

        import tfdist

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        loss = tfdist.evaluate(model, np.ones((10, 4)), np.ones(10), verbose=0)
        ```
    """
    loop = LoopOptions(batch_size=batch_size, steps=steps, verbose=verbose)
    arguments.check_call(model, "evaluate", callbacks)
    checks.move(model, strategy, "evaluate")
    checks.check_evaluate(model)
    given = {"batch_size": loop.batch_size, "steps": loop.steps}
    feed = open_feed(model, x, y, sample_weight, method="test_step", **given)
    losses_exit = Workers.of(model.distribute_strategy).exit_on_peer_loss()
    with losses_exit, set_test_call_length(model) as call_length:
        shown = {"epochs": 1, "steps": feed.steps_per_epoch}
        chosen = make_callback_list(model, callbacks, verbose, **shown, more=[call_length])
        call_length.register_callbacks(chosen.callbacks)
        logs = _evaluate(model, feed, chosen, call_length)
    return logs if return_dict else models.in_order(model, logs)


@as_usage_errors()
def _evaluate(model, feed, callbacks, call_length=None):
    checks.check_loop(model, "test")
    models.build(model, feed.spec)
    model.stop_evaluating = False
    callbacks.on_test_begin()
    model.reset_metrics()
    find_coupling(model, feed)
    program = Programs.of(model).test(form_of(model, feed))
    program = call_length.timed(program) if call_length else program
    with contextlib.closing(feed):
        (span,) = feed.spans(0, epochs=1)
        every = [1] if one_step_per_call(model, feed) else []
        calls = plan.calls(span, lambda: model.steps_per_execution, every)
        logs, _ = _run_epoch(model, program, feed, span, calls, callbacks, "test")
    callbacks.on_test_end(logs)
    return logs


def _numbers(logs):
    """Returns logs with scalars as Python numbers."""
    arrays = {name: np.asarray(value) for name, value in logs.items()}
    return {name: array.item() if array.ndim == 0 else array for name, array in arrays.items()}
