"""Makes the states of layers, such as running means, what they would be on one device."""

import contextlib

from tfdist.internals.access import models, variables
from tfdist.internals.access.replica import current_rows
from tfdist.internals.patches import assignments
from tfdist.synchronous.exchange.choice import say_once

_EXACT_FOR = {
    assignments.MEAN: "That is exact for a mean over the rows",
    assignments.SUM: "That is exact for a count or a sum over the rows",
    assignments.FIRST: "As their aggregation says, the rows of the other replicas do not count",
    assignments.ANY: "That is exact for a flag that any row sets",
}


class LayerStates:
    """The variables of a model that its step may assign: all but those of optimizers, metrics and random numbers.

    Args:
        model: a built `keras.Model` of several replicas.
        parts: None, or name → what else the step may assign to, as in `models.variables_alike`.
    """

    def __init__(self, model, parts=None):
        self._model = model
        self.variables = models.states(model, parts)
        self._noted = {}

    @contextlib.contextmanager
    def are_combined(self):
        """Makes the replicas' assignments count for all; then logs once what was done, by variable."""
        with assignments.states_are_combined():
            yield
        self.say_what_was_done()

    def say_what_was_done(self):
        """Logs once what was done, by variable."""
        noted, self._noted = self._noted, {}
        for (rule, at_end), names in noted.items():
            say_once(self._model, _line(rule, list(names), at_end), explains_difference=True)

    def kept(self):
        """Returns a context to enter in replica context, around what may assign."""
        return assignments.kept_by(self.keeper(current_rows))

    def keeper(self, rows):
        """Returns the `assignments.Keeper` of one replica; `rows` as there."""
        return assignments.Keeper(self.variables, rows, self._note)

    def _note(self, variable, rule, *, at_end=False):
        self._noted.setdefault((rule, at_end), {})[variables.name_of(variable)] = None


def _line(rule, names, at_end):
    late = (
        " They are assigned in a branch, in a function or by XLA, where no collective can be: what reads them "
        "afterwards within the step reads the replica's own value."
    )
    what, it = ("states", "they are") if len(names) > 1 else ("state", "it is")
    return (
        f"layer {what} {', '.join(names)}: computed by each replica from its own rows, so {it} {rule} in each step. "
        f"{_EXACT_FOR[rule]}.{late if at_end else ''} For anything else, such as a queue or a codebook, use "
        "tfdist.global_sum or tfdist.gather_rows in the layer."
    )
