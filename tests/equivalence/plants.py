"""Faults that are planted into tfdist: each takes one piece out of the code that keeps rows of the table equal."""

import contextlib
import dataclasses
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from equivalence.runner import CASES, HISTORY_TOLERANCE, run_plain, run_tfdist

from tfdist.gradients import mean, rows, updates
from tfdist.internals.access import gathering, models, replica
from tfdist.internals.patches import coupled, statistics, tapes
from tfdist.synchronous.step import local_statistics, metric_states, own_steps, step


@dataclasses.dataclass(frozen=True)
class Plant:
    """A piece of keeping code that can be taken out.

    Attributes:
        name: what replicas do without it.
        words: it is tried in the rows whose names have one of these.
        replacements: (owner, attribute, what stands in its place) each.
    """

    name: str
    words: tuple[str, ...]
    replacements: tuple[tuple[Any, str, Any], ...]

    def fits(self, row):
        """Returns whether the plant is tried in a row of this name."""
        return any(word in row for word in self.words)

    @contextlib.contextmanager
    def planted(self):
        """Takes the code out while the context is entered.

        Raises:
            AttributeError: the code has moved, so that the plant would change nothing.
        """
        with contextlib.ExitStack() as stack:
            for owner, name, replacement in self.replacements:
                stack.enter_context(mock.patch.object(owner, name, replacement))
            yield


def _nothing(*_, **__):
    return contextlib.nullcontext()


def _unchanged(value, *_, **__):
    return value


def _alone(caller):
    replica.note_operation(caller)
    return True


def _set_on_class(model, method):
    return getattr(type(model), method) is not getattr(models.keras.Model, method)


def _whole(step, target, above):
    yield target, tf.ones_like(target) if above is None else tf.convert_to_tensor(above)


_share = replica.Rows.share


def _same_share(self, dtype):
    # What tries the user's code cuts rows as replicas would: that is no step.
    if replica.is_on_trial():
        return _share(self, dtype)
    return tf.constant(1 / tf.distribute.get_strategy().num_replicas_in_sync, dtype)


# From what keeps few rows equal to what keeps many: the first that breaks a row is the row's.
PLANTS = (
    Plant(
        "a train_step that is set on the model itself is not seen",
        ("train step set on the model",),
        ((models, "has_own", _set_on_class),),
    ),
    Plant(
        "the losses that layers add are in one list for all replicas",
        ("layer: ",),
        (
            (statistics, "add_loss", statistics._add_loss_of_keras),
            (statistics, "own_losses", statistics._own_losses_of_keras),
            (statistics, "clear_losses", statistics._clear_losses_of_keras),
        ),
    ),
    Plant(
        "tf.nn.compute_average_loss and scale_regularization_loss are TensorFlow's",
        ("tutorial",),
        ((step, "average_losses_are_global", _nothing),),
    ),
    Plant(
        "an optimizer is not built for the variables that it is first given",
        ("not built",),
        ((own_steps, "build_if_needed", _nothing), (updates, "build_if_needed", _nothing)),
    ),
    Plant(
        "each replica keeps its own random numbers",
        ("noise on the gradients",),
        ((own_steps, "_of_first_replica", _unchanged),),
    ),
    Plant(
        "a value that a train_step assigns to a learning rate is aggregated by TensorFlow",
        ("learning rate from",),
        ((tapes, "_update_replica", tapes._update),),
    ),
    Plant(
        "a loss with a value for each row is weighted like a mean",
        ("own loss: ",),
        ((step, "_weight_of", lambda loss: replica.current_rows().share(loss.dtype)),),
    ),
    Plant(
        "a sum over rows counts as a mean",
        ("own step: sum", "half the sum", "a sum less", "slope of a sum", "compute_loss: "),
        ((tapes, "SUM", None), (own_steps, "as_mean", _unchanged)),
    ),
    Plant(
        "Keras' reductions are over each replica's rows",
        ("Keras' loss",),
        ((statistics, "reduce_values", statistics._reduce_values),),
    ),
    Plant(
        "a loss of all rows counts once for each replica",
        ("global_loss", "triplets, own"),
        ((coupled, "count_once", _unchanged), (gathering, "count_once", _unchanged)),
    ),
    Plant(
        "tfdist's operations over the replicas take this replica's rows",
        ("gather_rows", "global_", "sums and rows of all replicas"),
        ((rows, "works_alone", _alone), (mean, "works_alone", _alone)),
    ),
    Plant(
        "what layers add to the loss is computed from each replica's rows",
        ("coupled: add_loss", "coupled: BatchNormalization + add_loss", "coupled: activity_regularizer"),
        ((coupled, "_layers_of_all_rows", _nothing),),
    ),
    Plant(
        "a layer that couples rows is called on each replica's rows",
        ("layer state: ", "coupled: Softmax", "coupled: Unit", "coupled: an activation"),
        ((coupled, "_call_of_all_rows", _unchanged),),
    ),
    Plant(
        "a loss that couples rows is computed from each replica's rows",
        ("coupled: ",),
        ((coupled, "LossOfAllRows", _unchanged),),
    ),
    Plant(
        "the variables of all metrics are summed",
        ("metric: aggregations",),
        ((metric_states, "aggregations_of", lambda model: {}),),
    ),
    Plant(
        "a metric that does not add up is updated with each replica's rows",
        ("metric: ",),
        ((coupled, "_update_of_all_rows", _unchanged),),
    ),
    Plant(
        "what a replica assigns to the state of a layer is its own",
        ("layer state: ",),
        ((local_statistics.LocalStatistics, "states_are_combined", _nothing),),
    ),
    Plant(
        "gradients are summed after the user's code has changed them",
        ("own step: ",),
        ((tapes, "tapes_sum_over_replicas", _nothing),),
    ),
    Plant(
        "the gradients of a tape are not weighted by rows",
        ("own step: ",),
        ((tapes, "_weighted", _whole),),
    ),
    Plant(
        "each replica counts the same, however many rows it has",
        ("",),
        ((replica.Rows, "share", _same_share),),
    ),
)


def departure(name, strategy):
    """Trains a row of the table; returns (how it ended: a difference or an error, that in tolerances).

    Args:
        name: the row's name.
        strategy: a `tf.distribute.Strategy`.

    Raises:
        TypeError, AttributeError, NameError, LookupError, AssertionError, Warning: a plant does not fit its place.
    """
    try:
        _, weights, history = run_tfdist(name, strategy)
    except (TypeError, AttributeError, NameError, LookupError, AssertionError, Warning):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:100]
        return f"{type(error).__name__}: {said}", np.inf
    _, plain, plain_history = run_plain(name)
    pairs = [(weights, plain, CASES[name].tolerance)]
    pairs += [(history.get(key, np.nan), values, HISTORY_TOLERANCE) for key, values in plain_history.items()]
    found = [(float(np.nan_to_num(np.abs(one - other), nan=np.inf).max()), allowed) for one, other, allowed in pairs]
    difference, allowed = max(found, key=lambda each: each[0] / each[1])
    return f"{difference:.0e}", difference / allowed
