"""One model on one device or on N replicas, which can be trained repeatedly from the same start."""

import keras
import numpy as np
import tensorflow as tf

from tfdist import training
from tfdist.internals.access import models
from tfdist.internals.patches import layer_calls
from tfdist.process import log
from tfdist.process.errors import TfdistError, UserCodeError
from tfdist.verify.compare import Evidence


class NotComparable(TfdistError, ValueError):
    """There is nothing to compare, and the user can correct that."""


class Trial:
    """A model that `build` makes in a strategy's scope.

    Args:
        build: the user's function () → (model, data).
        strategy: a `tf.distribute.Strategy`; the default strategy stands for plain Keras on one device.
        seed: of the weights.
        sync_batchnorm: as in `tfdist.fit`.

    Attributes:
        model, data: the results of `build`.
        start: the values that every training begins with; None before `prepare`.
        random_layers: the names of layers that are called as in inference, because replicas must differ in them.
        explanations: lines that tfdist logged while the replicas trained, and that may explain a difference.
    """

    def __init__(self, build, strategy, *, seed, sync_batchnorm):
        self._strategy = strategy
        self._sync_batchnorm = sync_batchnorm
        self.start = None
        self._heard = log.Explanations()
        self.explanations = self._heard.lines
        keras.utils.set_random_seed(seed)
        layer_calls.count_names_anew()
        with strategy.scope():
            self.model, self.data = checked(call(build))
        self.random_layers = layer_calls.silence_random_layers(self.model)

    def record_gradients(self, eager=False):
        """Replaces the user's optimizer by one that keeps the gradients.

        Args:
            eager: whether steps are eager, so that the layers' outputs can be recorded.
        """
        with self._strategy.scope():
            # After one step, its momentum is exactly minus the gradient of that step.
            self.model.optimizer = keras.optimizers.SGD(1.0, momentum=0.5)
        self.model.run_eagerly = eager
        self.model.jit_compile = False
        return self

    def gradients(self, dataset):
        """Returns (logs, gradients) of one step on a batch, from the start; call `record_gradients` first."""
        self._rewind(dataset)
        logs = self._fit(dataset)
        kept = zip(self.model.trainable_variables, self.model.optimizer.momentums, strict=True)
        return logs, [(variable.path, -np.asarray(momentum)) for variable, momentum in kept]

    def outputs(self, dataset, rows_of_replicas):
        """Returns the layers' outputs in one eager step on a batch, from the start."""
        self._rewind(dataset)
        with layer_calls.recorded() as calls:
            self._fit(dataset)
        return layer_calls.joined(calls, rows_of_replicas)

    def weights(self, dataset):
        """Returns the `Evidence` of training on a data set with the user's own optimizer, from the start."""
        self._rewind(dataset)
        before = self._weights()
        logs = self._fit(dataset)
        after = self._weights()
        trained = frozenset(weight.path for weight in self.model.trainable_variables)
        changes = [
            np.max(np.abs(b - a), initial=0) for (path, a), (_, b) in zip(before, after, strict=True) if path in trained
        ]
        return Evidence(logs, after, trained=trained, moved=float(max(changes, default=0)))

    def prepare(self, spec, start_as=None):
        """Makes every variable, and keeps the values that trainings begin with.

        Args:
            spec: nested `tf.TensorSpec`s of a batch.
            start_as: another trial whose values to take, because a scope may make variables in another order.
        """
        models.build(self.model, spec)
        self.start = [np.copy(np.asarray(variable)) for variable in self._variables()]
        if start_as is None:
            return
        if [value.shape for value in self.start] != [value.shape for value in start_as.start]:
            raise NotComparable(
                "build_fn() does not return the same model each time: its variables differ. Make it return the same."
            )
        self.start = start_as.start

    def _weights(self):
        return [(weight.path, np.copy(np.asarray(weight))) for weight in self.model.weights]

    def _rewind(self, dataset):
        for variable, value in zip(self._variables(), self.start, strict=True):
            variable.assign(value)

    def _variables(self):
        metrics = {id(variable) for variable in models.metric_variables(self.model)}
        own = [variable for variable in self.model.variables if id(variable) not in metrics]
        return own + list(models.optimizer_variables(self.model))

    def _fit(self, dataset):
        if self._strategy.num_replicas_in_sync == 1:
            history = self.model.fit(dataset, shuffle=False, verbose=0)
        else:
            with self._heard.collected():
                history = training.fit(self.model, dataset, verbose=0, sync_batchnorm=self._sync_batchnorm)
        return {name: float(np.mean(values[-1])) for name, values in history.history.items()}


def call(build):
    """Calls the user's function.

    Raises:
        UserCodeError: the function raised an error.
    """
    try:
        return build()
    except Exception as error:
        raise UserCodeError("build_fn()", error) from error


def checked(built):
    """Checks and returns (model, data) as `build_fn` returned them.

    Raises:
        NotComparable: it returned something else.
    """
    form = "Return (model, data): a compiled keras.Model, and (x, y) arrays, a tf.data.Dataset or a tfdist Source."
    if not isinstance(built, tuple) or len(built) != 2:
        raise NotComparable(f"build_fn() returned {type(built).__name__}. {form}")
    model, data = built
    if not isinstance(model, keras.Model):
        raise NotComparable(f"build_fn() returned {type(model).__name__} for the model. {form}")
    if not models.is_compiled(model):
        raise NotComparable(
            "build_fn() returned a model that is not compiled. Call model.compile(optimizer, loss) in it."
        )
    if not isinstance(data, tuple | tf.data.Dataset) and not hasattr(data, "dataset"):
        raise NotComparable(f"build_fn() returned {type(data).__name__} for the data. {form}")
    return model, data
