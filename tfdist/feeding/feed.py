"""What `fit` was given → the batches of each epoch."""

import dataclasses
import functools
import itertools

import tensorflow as tf

from tfdist.data.delivery.share import is_absent_spec
from tfdist.feeding import plan
from tfdist.feeding.checks import check_targets
from tfdist.feeding.inputs import make_input
from tfdist.feeding.static_shapes import BY_HAND, for_strategy
from tfdist.process.errors import UsageError
from tfdist.process.log import warn
from tfdist.process.user_warnings import warn_user


def open_feed(model, x, y=None, sample_weight=None, *, method, **arguments):
    """Returns the `Feed` of what Keras' methods take, or a `Source`, for a model's strategy.

    Args:
        model: a `keras.Model`.
        x, y, sample_weight: as in `make_input`.
        method: the method that will run, as in `for_strategy`.
        **arguments: further arguments of `make_input`.

    Raises:
        ValueError: as `make_input`, `for_strategy`, `Feed` and `check_targets`.
    """
    data = make_input(x, y, sample_weight, **arguments)
    feed = Feed(for_strategy(data, model, method), model.distribute_strategy)
    # A loop written by hand computes its loss itself.
    if method not in (None, BY_HAND):
        check_targets(model, feed.spec, method, feed.data.source.name)
    return feed


class Feed:
    """Hands out the batches of an `Input`: each epoch goes on where the last ended, begins anew, or in the middle.

    Args:
        data: an `Input`.
        strategy: the `tf.distribute.Strategy`.

    Attributes:
        data: the same.
        steps_per_epoch: what the user gave, or the batches of the data; None until the first epoch's end if unknown.

    Raises:
        ValueError: the data have no end and no steps are given; or they have no batch.
    """

    def __init__(self, data, strategy):
        self.data = data
        self._strategy = strategy
        self._reading = None
        self._delivered = None, None
        self._done = 0
        self._is_left = self._is_spent = False
        self.steps_per_epoch = data.steps or data.source.cardinality
        if self.steps_per_epoch is None and data.endless:
            raise UsageError(
                f"{data.source.name}: the data have no end, and the number of batches in an epoch is unknown. Give "
                "steps_per_epoch (for evaluate and predict: steps; for validation_data: validation_steps)."
            )
        if data.source.cardinality == 0:
            raise UsageError(f"{data.source.name}: there is no batch. Check the data, and what filters them.")

    @property
    def form(self):
        """The `Form` of the batches."""
        return self.data.source.form(self._strategy.num_replicas_in_sync)

    @property
    def global_batch(self):
        """Rows of a step over all replicas; None where they are not known in advance."""
        return self._source_plan and self._source_plan.global_batch

    @property
    def is_in_memory(self):
        """Whether the step picks rows from memory, without a pipeline."""
        return self.data.source.is_in_memory(self._strategy)

    @property
    def rows_in_memory(self):
        """Nested tensors of all rows where they are in memory as they are; otherwise None."""
        return self.data.source.rows_in_memory() if self._source_plan else None

    @property
    def replica_spec(self):
        """Nested specs of a replica's part of a full batch; None where its rows are not known in advance."""
        source_plan = self._source_plan
        if source_plan is None:
            return None
        rows = -(-min(source_plan.global_batch, source_plan.rows) // self._strategy.num_replicas_in_sync)
        return tf.nest.map_structure(functools.partial(_with_rows, rows), self.data.source.element_spec)

    @property
    def batches_are_alike(self):
        """Whether every replica has the same number of rows in every step."""
        source_plan = self._source_plan
        if source_plan is None or source_plan.global_batch % self._strategy.num_replicas_in_sync:
            return False
        rows, global_batch = source_plan.rows, source_plan.global_batch
        return global_batch <= rows and (source_plan.drop_remainder or not rows % global_batch)

    @property
    def _source_plan(self):
        """The plan of a `Source`, whose rows are known in advance; None for other data."""
        return getattr(self.data.source, "plan", None)

    def length(self, *, epochs, steps):
        """Returns (epochs, steps) of a whole run of so many epochs, or of so many steps; None for what is not known."""
        per_epoch = self.steps_per_epoch
        if steps:
            return per_epoch and -(-steps // per_epoch), steps
        return epochs, per_epoch and epochs * per_epoch

    @property
    def rows_of_steps(self):
        """A function (first step, steps) → rows of those steps of an epoch; None where it is not known in advance."""
        is_whole = self.data.steps in (None, self.data.source.cardinality)
        return self._source_plan.rows_of_steps if self._source_plan and is_whole else None

    # Kept, because a source makes a pipeline to find it out.
    @functools.cached_property
    def spec(self):
        """Nested specs of a batch, with an open first dimension and None for what is absent."""
        return tf.nest.map_structure(functools.partial(_with_rows, None), self.data.source.element_spec)

    def spans(self, done, *, epochs, steps=None, first_epoch=0):
        """Returns the `plan.Span`s of a run.

        Args:
            done: steps done before.
            epochs: epochs in all.
            steps: steps in all, in place of `epochs`.
            first_epoch: the epoch to begin with, unless more steps were done before.
        """
        if self.steps_per_epoch is None:
            return self._spans_to_the_end(
                done, range(first_epoch, epochs) if steps is None else itertools.count(), steps
            )
        spans = plan.spans(
            max(done, first_epoch * self.steps_per_epoch),
            steps_per_epoch=self.steps_per_epoch,
            total=steps or epochs * self.steps_per_epoch,
            batches=self._batches,
        )
        # What a generator has yielded is gone.
        return itertools.takewhile(lambda _: not self._is_spent, spans)

    @property
    def _batches(self):
        """Batches in one pass over the data if they are known and an epoch ends with the data, else None."""
        return None if self.data.wraps else self.data.source.cardinality

    def _spans_to_the_end(self, done, epochs, steps):
        if done:
            raise UsageError(
                f"{self.data.source.name}: the number of batches in an epoch is unknown, so a run cannot go on in the "
                "middle of one. Give steps_per_epoch."
            )
        for epoch in epochs:
            if self._is_spent:
                warn(
                    f"{self.data.source.name}: a generator can be read once, and this one has ended after {self._done} "
                    "batches, so the run ends with it. For more epochs give steps_per_epoch and a generator that goes "
                    "on, or data that can be read again: arrays, a PyDataset, a tf.data.Dataset, or a tfdist Source."
                )
                return
            before = self._done
            left = plan.UNKNOWN if steps is None else steps - before
            yield plan.Span(epoch, 0, min(self.steps_per_epoch or plan.UNKNOWN, left), before)
            if steps is not None and (self._done >= steps or self._done == before):
                return

    @property
    def iterators(self):
        """How many iterators of the user's own data set were made; None for data with an order of tfdist's."""
        return getattr(self.data.source, "iterators", None)

    def catch_up(self, iterators):
        """Sets how many iterators an earlier start of the run had made, so that their orders are not read again."""
        if self.iterators is not None:
            self.data.source.iterators_before = iterators

    def why_not_repeatable(self):
        """Returns why a resumed run would read the rows in another order; None where it would not."""
        source = self.data.source
        return source.why_not_repeatable() if self.iterators is not None else None

    def begin(self, span):
        """Begins an epoch, and returns the `Reading` of its shares."""
        self.data.hooks.on_epoch_begin()
        if self._reading is None:
            place = self._place(span)
            if self._delivered[0] != place:
                self._delivered = place, self.data.source.deliver(self._strategy, *place)
            self._reading = self._delivered[1]()
        return self._reading

    def _place(self, span):
        """Returns (pass, batch) of a span's first step in the data."""
        if self._batches:
            return plan.place(span, steps_per_epoch=self.steps_per_epoch, batches=self._batches)
        if self.data.endless:
            return 0, span.done
        cardinality = self.data.source.cardinality
        return divmod(span.done, cardinality) if cardinality else (span.epoch, span.first)

    def end(self, span, done, *, ended):
        """Ends an epoch after `done` steps; if the data ended with it, the next epoch begins them anew.

        Args:
            span: the `Span` of the epoch.
            done: the steps done in it.
            ended: whether the data ended before the span did.
        """
        self.data.hooks.on_epoch_end()
        if ended and not span.done + done:
            raise UsageError(f"{self.data.source.name}: there is no batch. Check the data, and what filters them.")
        self._done = span.done + done
        if self._batches:
            ended = ended or self._place(span)[1] + done >= self._batches
        given, here = self.data.steps, span.first + done
        self._is_left = not ended and here < span.last
        self._is_spent = self.data.is_one_pass and ended
        if ended and given and here < given:
            warn_user(
                f"{self.data.source.name}: the data ended after {here} batches; this epoch ends here. Data for "
                f"steps_per_epoch={given} need more batches, or `.repeat()`."
            )
        if ended and self.steps_per_epoch is None:
            self.steps_per_epoch = here
        # The reading of a `Source` goes on in its next pass by itself.
        if self._source_plan is None and (ended or not given):
            if ended and not self.data.is_read_by_threads:
                self._reading.leave()
            self.close()

    def is_left(self):
        """Returns whether the last epoch was left before its last step."""
        return self._is_left

    def end_epochs_with_data(self):
        """Makes the given steps per epoch those of a pass over the data, which begin anew with each epoch."""
        self.data = dataclasses.replace(self.data, steps=None)

    def close(self):
        """Stops reading; the next epoch reads the data anew from its own place."""
        self._reading = None
        self.data.hooks.stop()


def _with_rows(rows, spec):
    if is_absent_spec(spec):
        return None
    return tf.TensorSpec([rows, *spec.shape[1:]], spec.dtype) if isinstance(spec, tf.TensorSpec) else spec
