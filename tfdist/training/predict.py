"""Computes a model's outputs for every row on every worker, or step by step for each worker's own rows."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.feeding import plan
from tfdist.feeding.feed import open_feed
from tfdist.internals.access import models
from tfdist.internals.access.callbacks import weights_swapped_back
from tfdist.ops.refusals import as_usage_errors
from tfdist.options.loop import LoopOptions
from tfdist.process.nearest import with_known_arguments
from tfdist.strategy.workers import Workers
from tfdist.synchronous.step.find_coupling import find_joint_layers, form_of, one_step_per_call
from tfdist.synchronous.step.programs import Programs
from tfdist.training import arguments, checks
from tfdist.training.callback_list import make_callback_list


@with_known_arguments
def predict(
    model: keras.Model,
    x: Any,
    batch_size: int | None = None,
    verbose: int | str = "auto",
    steps: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None = None,
    *,
    own_rows: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> Any:
    """Computes the outputs for a whole set, in the order of its rows, on every worker.

    Args:
        model: a `keras.Model`.
        x: a tfdist `Source` (its labels are ignored), or what Keras takes, as in `fit`.
        batch_size: rows of a step over all replicas; 32 by default.
        verbose, steps, callbacks: as in Keras.
        own_rows: whether each worker gets only the outputs of its own replicas' rows, step by step, so that those of
            the whole set are neither held in memory nor sent over the network. All workers must take all steps.
        strategy: as in `fit`.

    Returns:
        Nested NumPy arrays of shape (rows, ...). With `own_rows`, an iterator that yields for each step (places,
        outputs): int64 (B,), the places of this worker's rows in the data, and nested arrays of shape (B, ...).

    Raises:
        ValueError: the data have no batch, or `predict_step` does not return one output per row.

    Example:
        ```python
        import keras
        import numpy as np

        import tfdist

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        outputs = tfdist.predict(model, np.ones((10, 4)), verbose=0)
        assert outputs.shape == (10, 3)
        ```
    """
    loop = LoopOptions(batch_size=batch_size, steps=steps, verbose=verbose)
    arguments.check_call(model, "predict", callbacks)
    checks.move(model, strategy, "predict")
    checks.check_all_workers_call(model.distribute_strategy, "tfdist.predict")
    checks.check_layers(model)
    feed = open_feed(model, x, method=None, batch_size=loop.batch_size, steps=loop.steps)
    callbacks = make_callback_list(model, callbacks, verbose, epochs=1, steps=feed.steps_per_epoch)
    checks.check_loop(model, "predict")
    models.build_layers(model, feed.spec)
    calls = _calls(model, feed, callbacks, own_rows=own_rows)
    if own_rows:
        return (part for parts in calls for part in parts)
    outputs = [part for parts in calls for _, part in parts]
    return tf.nest.map_structure(_join, *outputs)


def _calls(model, feed, callbacks, *, own_rows):
    """Yields, call by call, the list of its steps' (places, outputs)."""
    exchanges = bool(find_joint_layers(model, feed).always)
    program = Programs.of(model).predict(form_of(model, feed) if exchanges else feed.form, own_rows=own_rows)
    every = [1] if exchanges and one_step_per_call(model, feed) else []
    (span,) = feed.spans(0, epochs=1)
    model.stop_predicting = False
    losses_exit = Workers.of(model.distribute_strategy).exit_on_peer_loss()
    with contextlib.closing(feed), losses_exit, as_usage_errors(), weights_swapped_back(callbacks.callbacks):
        callbacks.on_predict_begin()
        reading = feed.begin(span)
        done = rows_before = 0
        ended = False
        for first, count in plan.calls(span, lambda: model.steps_per_execution, every):
            callbacks.on_predict_batch_begin(first)
            parts = []
            for outputs, places, global_rows in program(reading, count):
                parts.append((rows_before + np.asarray(places), tf.nest.map_structure(_plain, outputs)))
                rows_before += int(global_rows)
            done += len(parts)
            if parts:
                outputs = tf.nest.map_structure(_join, *(part for _, part in parts))
                callbacks.on_predict_batch_end(first + len(parts) - 1, {"outputs": outputs})
                yield parts
            ended = len(parts) < count
            if ended or model.stop_predicting:
                break
        feed.end(span, done, ended=ended)
        callbacks.on_predict_end()


def _plain(output):
    return output if isinstance(output, tf.RaggedTensor) else np.asarray(output)


def _join(*parts):
    if isinstance(parts[0], tf.RaggedTensor):
        return tf.concat(parts, axis=0)
    return np.concatenate(parts) if len({part.shape[1:] for part in parts}) == 1 else models.ragged_rows(parts)
