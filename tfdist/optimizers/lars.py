"""LARS: stochastic gradient descent with a learning rate for each layer, for large global batches."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import keras
import tensorflow as tf
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from tfdist.optimizers.scaling import is_number
from tfdist.process.errors import UsageError


@keras.saving.register_keras_serializable(package="tfdist")
class LARS(keras.optimizers.SGD):
    """Layer-wise adaptive rate scaling (You et al. 2017, arXiv:1708.03888).

    For a weight w with gradient g, weight decay b and trust coefficient c:

        ratio    = c * |w| / (|g| + b * |w| + epsilon), or 1 where |w| or |g| is 0
        velocity = momentum * velocity - learning_rate * ratio * (g + b * w)
        w        = w + velocity

    Variables of fewer than two dimensions (biases, the scales and offsets of norms) and those named in
    `exclude_from_layer_adaptation` get the plain step, without ratio and decay. The gradient is that of the whole
    global batch, clipped first where that is requested.

    Args:
        learning_rate: a float, a Keras schedule, or a function () → rate.
        momentum: a float from 0 to 1.
        weight_decay: b. It stands inside the ratio and is not Keras' decoupled decay. Give it here or as the layers'
            regularizers, not both.
        trust_coefficient: c, the paper's eta.
        epsilon: against division by tiny norms.
        nesterov: whether to look ahead, as in `keras.optimizers.SGD`.
        exclude_from_layer_adaptation: regular expressions, or one, searched in the variables' paths, such as
            "probabilities/kernel".
        name: names the optimizer's variables.
        **common: what every Keras optimizer takes: clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
            ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps.

    Raises:
        ValueError: a number out of range, a pattern that is no regular expression, or, once the variables are known,
            one that matches none of them.

    Example:
        ```python
        from tfdist import models, optimizers

        model = models.build("cnn", classes=10, input_shape=(8, 8, 1))
        optimizer = optimizers.LARS(0.5, weight_decay=1e-4, exclude_from_layer_adaptation="probabilities/kernel")
        model.compile(optimizer, "sparse_categorical_crossentropy")
        ```
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule | Callable[[], float] = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        epsilon: float = 1e-9,
        nesterov: bool = False,
        exclude_from_layer_adaptation: str | Iterable[str] = (),
        name: str = "lars",
        **common: Any,
    ) -> None:
        # No weight_decay for Keras, which would shrink the weights a second time, outside the ratio.
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, name=name, **common)
        self.coupled_weight_decay = _number("weight_decay", weight_decay)
        self.trust_coefficient = _number("trust_coefficient", trust_coefficient)
        self.epsilon = _number("epsilon", epsilon)
        self.exclude_from_layer_adaptation = _patterns(exclude_from_layer_adaptation)
        self._plain: frozenset[int] = frozenset()

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes the velocities, and finds the variables that the patterns match."""
        if self.built:
            return
        super().build(variables)
        paths = [getattr(variable, "path", variable.name) for variable in variables]
        for pattern in self.exclude_from_layer_adaptation:
            if not any(re.search(pattern, path) for path in paths):
                raise UsageError(
                    f"LARS: exclude_from_layer_adaptation has {pattern!r}, which matches none of the variables "
                    f"{', '.join(paths)}. Correct it or leave it out."
                )
        self._plain = frozenset(
            id(part)
            for variable, path in zip(variables, paths, strict=True)
            if any(re.search(pattern, path) for pattern in self.exclude_from_layer_adaptation)
            for part in _parts(variable)
        )

    def update_step(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable, learning_rate: tf.Tensor | tf.Variable
    ) -> None:
        """Updates one variable.

        Args:
            gradient: its gradient, a tensor or `tf.IndexedSlices`.
            variable: a `tf.Variable`, under a strategy that of one replica.
            learning_rate: scalar tensor or variable.
        """
        if len(variable.shape) > 1 and id(variable) not in self._plain:
            # The decay and the norm need every row.
            gradient = self._adapted(ops.cast(tf.convert_to_tensor(gradient), variable.dtype), variable)
        super().update_step(gradient, variable, learning_rate)

    def _adapted(self, gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        weight_norm, gradient_norm = ops.norm(ops.ravel(variable)), ops.norm(ops.ravel(gradient))
        denominator = gradient_norm + self.coupled_weight_decay * weight_norm + self.epsilon
        is_usable = ops.logical_and(weight_norm > 0, gradient_norm > 0)
        # A denominator of 1 where the ratio is not taken: 0 / 0 stays out of the graph.
        ratio = self.trust_coefficient * weight_norm / ops.where(is_usable, denominator, ops.ones_like(denominator))
        ratio = ops.where(is_usable, ratio, ops.ones_like(ratio))
        return ratio * (gradient + self.coupled_weight_decay * variable)

    def exclude_from_weight_decay(
        self, var_list: Sequence[keras.Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> NoReturn:
        """Raises a ValueError, because LARS has no decay outside the ratio."""
        raise UsageError(
            f"LARS: exclude_from_weight_decay got var_list={var_list!r}, var_names={var_names!r}, but LARS applies "
            "weight decay only with the layer adaptation. Name the variables in exclude_from_layer_adaptation."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, as JSON types."""
        return {
            **super().get_config(),
            "weight_decay": self.coupled_weight_decay,
            "trust_coefficient": self.trust_coefficient,
            "epsilon": self.epsilon,
            "exclude_from_layer_adaptation": list(self.exclude_from_layer_adaptation),
        }


def _parts(variable: keras.Variable | tf.Variable) -> list[Any]:
    """Returns what `update_step` may receive for a variable: itself, or its copy on a replica."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    copies = value.values if isinstance(value, tf.distribute.DistributedValues) else ()
    return [value, *copies]


def _number(name: str, value: object) -> float:
    if not is_number(value) or value < 0:
        raise UsageError(f"LARS: {name} is {value!r}. Use a finite number from 0.")
    return float(value)


def _patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    patterns = (given,) if isinstance(given, str) else tuple(given)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise UsageError(
                f"LARS: exclude_from_layer_adaptation has {pattern!r}: {error}. Use regular expressions."
            ) from None
    return patterns
