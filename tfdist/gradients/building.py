"""Makes an optimizer ready for an update: built for the variables that it is first given, as Keras does."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdist.internals.access.tracing import creating_variables
from tfdist.process.errors import UsageError


def build_if_needed(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[tf.Variable | keras.Variable],
) -> None:
    """Creates the variables of an optimizer that has none yet; call it in replica context.

    Args:
        optimizer: a Keras optimizer.
        variables: the variables that it is about to update.

    Raises:
        ValueError: there is no variable to build it for; or the optimizer or a variable was made outside the scope.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        _check_scope(optimizer, variables)
    if optimizer.built:
        return
    if not variables:
        raise UsageError(
            "apply_gradients: the optimizer is not built, and there are no variables to build it for. Pass the "
            "variables, or build the model before the step."
        )
    # The first replica that is traced builds it for all.
    with creating_variables():
        optimizer.build(variables)


def _check_scope(optimizer: keras.optimizers.Optimizer, variables: Sequence[tf.Variable | keras.Variable]) -> None:
    # Each replica would count the step, or update the weight, once more.
    if not all(map(_is_distributed, optimizer.variables)):
        raise UsageError(
            f"apply_gradients: the optimizer {optimizer.name!r} was made outside strategy.scope(), so every replica "
            "would count its steps. Move the line that makes it into `with strategy.scope():`."
        )
    for variable in variables:
        if not _is_distributed(variable):
            raise UsageError(
                f"apply_gradients: the variable {getattr(variable, 'path', variable.name)!r} was made outside "
                "strategy.scope(), so every replica would update it. Move the line that makes it into "
                "`with strategy.scope():`."
            )


def _is_distributed(variable: tf.Variable | keras.Variable) -> bool:
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return isinstance(value, tf.distribute.DistributedValues)
