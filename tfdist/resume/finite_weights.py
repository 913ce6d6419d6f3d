"""Whether the weights of a run are finite numbers, so that no checkpoint holds a NaN."""

import time

from tfdist.internals.access import models
from tfdist.process.errors import NotFiniteError
from tfdist.process.log import warn

_CURES = (
    "Look for a learning rate that is too high, a logarithm or a division of 0, and rows that are not finite. Clip "
    "gradients (clipnorm), or use on_nan='warn' to go on as Keras does."
)
# Between two looks at the weights passes a hundred times the time that one takes.
_WAIT = 100


class FiniteWeights:
    """Watches the trainable weights of a run, which are the same on all workers.

    Args:
        trained: the `saved_run.Trained`, built, before its first step.
        on_nan: one of `options.step.ON_NAN`.
        run_dir: None, or the `RunDir` of the run.
        clock: a function () → seconds, which tests replace.

    Attributes:
        on_nan: the same.
    """

    def __init__(self, trained, on_nan, run_dir=None, clock=time.perf_counter):
        self.on_nan = on_nan
        self._trained = trained
        # A mask of the user's own may hold infinities from the start.
        self._expected = set(models.not_finite(self._weights))
        self._run_dir = run_dir
        self._has_warned = False
        self._clock = clock
        self._is_first = True
        self._checked_step = self._checked_at = self._check_seconds = 0

    @property
    def _weights(self):
        # Read anew, because a callback may have made some trainable since the start.
        return [variable for variable in self._trained.variables if variable.trainable]

    def found(self):
        """Returns the paths of the weights that have become NaN or infinite, in the order of the model."""
        return [path for path in models.not_finite(self._weights) if path not in self._expected]

    def is_due(self):
        """Returns whether another look at the weights within an epoch takes less than a hundredth of the time."""
        return self._is_first or self._clock() - self._checked_at >= _WAIT * self._check_seconds

    def check(self, step):
        """Raises `NotFiniteError` with "stop", or warns, if a weight is not finite after a step of the run.

        Returns:
            Whether the weights may be saved.
        """
        begin = self._clock()
        found = self.found()
        if found:
            since = f", and was after step {self._checked_step}" if self._checked_step else ""
            self.report(f"after step {step} of the run {describe(found)}{since}")
        self._is_first, self._checked_at = False, self._clock()
        self._check_seconds = self._checked_at - begin
        self._checked_step = self._checked_step if found else step
        return not found

    def report(self, what, then=""):
        """Raises `NotFiniteError` with "stop"; otherwise warns once.

        Args:
            what: a phrase that says what is not finite, and when.
            then: a sentence about what follows from it.
        """
        then = f" {then}" if then else ""
        if self.on_nan == "stop":
            raise NotFiniteError(f"training: {what}.{then} {_CURES}{self._kept()}")
        if not self._has_warned:
            self._has_warned = True
            warn(f"training: {what}.{then} No checkpoint is saved while a weight is not finite.")

    def _kept(self):
        steps = self._run_dir.checkpoint_steps() if self._run_dir else []
        return f" The checkpoint of step {steps[-1]} is from before, and is kept." if steps else ""


def describe(paths):
    """Returns a phrase about weights that are not finite, of which the first in the model's order is named."""
    if not paths:
        return "all weights are finite"
    others = f", as are {len(paths) - 1} others" if len(paths) > 1 else ""
    return f"the weight {paths[0]!r} is not finite{others}"
