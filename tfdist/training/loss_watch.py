"""Ends a run whose loss is NaN or infinite, and reports the step and the weight where that began."""

import keras
import numpy as np

from tfdist.internals.access import models, runtime
from tfdist.resume.finite_weights import describe
from tfdist.strategy.workers import Workers
from tfdist.synchronous.step.calls import OnNan
from tfdist.synchronous.step.labels import has_class_numbers

_UNCHECKED = (
    "XLA and GPUs do not check indices and labels, and return NaN for one that is out of range: jit_compile=False on a "
    "CPU shows whether one is."
)


class LossWatch:
    """Looks at the loss of each call, and at the weights after each epoch.

    The loss is a sum over all workers, so all of them see the same and stop alike.

    Args:
        model: a compiled, built `keras.Model`.
        weights: the `FiniteWeights` of the run.
        callbacks: all callbacks of the run.
        is_compiled: whether XLA compiles the gradients.
    """

    def __init__(self, model, weights, callbacks, *, is_compiled):
        self._model = model
        self._weights = weights
        self._workers = Workers.of(model.distribute_strategy)
        self._is_compiled = is_compiled
        self._is_off = ends_on_nan(callbacks)
        self._logs_of_steps = models.has_own(model, "train_step")

    @property
    def on_nan(self):
        """What a compiled call does, an `OnNan`."""
        if self._is_off:
            return OnNan.UNWATCHED
        strategy = self._model.distribute_strategy
        ends = self._weights.on_nan == "stop" and not models.scales_loss(self._model)
        # One of several workers does not see the others' losses within a call, and a condition on a GPU's value would
        # wait for it in each step.
        ends = ends and self._workers.count == 1 and runtime.is_on_cpus(strategy)
        return OnNan.END if ends else OnNan.COUNT

    def after_call(self, span, before, first, steps, logs, measured):
        """Raises `NotFiniteError`, or warns, if the loss of a call is not finite; all workers call it.

        Args:
            span: the `plan.Span`.
            before: the steps of the run before the epoch.
            first: the first step of the call, counted from the epoch's beginning.
            steps: the steps of the call.
            logs, measured: what the call returned.
        """
        loss = self._first_not_finite(logs)
        if self._is_off:
            return
        if loss is None:
            # Among several workers the chief decides when, in `resume.decisions`.
            if self._workers.count == 1 and self._weights.is_due():
                self._weights.check(before + first + steps)
            return
        found = self._weights.found()
        if models.scales_loss(self._model) and not found:
            # The optimizer leaves such an update out on purpose.
            return
        finite = min(each for (each,) in self._workers.gather([measured.steps_finite()]))
        step = first + int(finite) + 1
        name, value = loss
        where = f"step {step} of epoch {span.epoch + 1}, which is step {before + step} of the run"
        then = _UNCHECKED if self._may_be_an_index() else ""
        self._weights.report(f"the {name} is {value} since {where}; after it {describe(found)}", then)

    def after_epoch(self, step):
        """Raises `NotFiniteError`, or warns, if a weight is not finite though the loss still is."""
        if not self._is_off:
            self._weights.check(step)

    def _first_not_finite(self, logs):
        """Returns (name, value) of the first loss that is not finite, or None."""
        for name, value in logs.items():
            if name == "loss" or (self._logs_of_steps and "loss" in name):
                values = np.asarray(value)
                if not np.isfinite(values).all():
                    return name, values.item() if values.ndim == 0 else values
        return None

    def _may_be_an_index(self):
        on_cpus = runtime.is_on_cpus(self._model.distribute_strategy)
        has_indices = any(isinstance(layer, keras.layers.Embedding) for layer in models.layers(self._model))
        return (self._is_compiled and has_indices) or (not on_cpus and (has_indices or has_class_numbers(self._model)))


def ends_on_nan(callbacks):
    """Returns whether a callback of the user's, or of a `CallbackList`, ends the run without an error."""
    callbacks = getattr(callbacks, "callbacks", callbacks)
    return any(isinstance(item, keras.callbacks.TerminateOnNaN) for item in keras.tree.flatten(callbacks or []))
