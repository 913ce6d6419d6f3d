"""How the shares of one global batch reach the replicas of this worker."""

import tensorflow as tf

from tfdist.data.in_memory import Picks, Reading
from tfdist.internals import runtime
from tfdist.internals.tracing import as_written
from tfdist.strategy import worker_count, worker_rank


def deliver(strategy, make_batches):
    """Gives what makes endless iterators for `take`: each `iter` of it begins anew, and traces nothing again.

    Where all replicas of this worker are CPUs, nothing has to be moved: then the iterator is a plain one, for that of
    `tf.distribute` costs 0.2 ms a step with one replica and 0.5 ms with two, more than a small step itself.

    Args:
        strategy: the `tf.distribute.Strategy`.
        make_batches: a function (replicas, first, count) → the endless `tf.data.Dataset` of one worker: in each element
            one `Share` for each of its replicas first..first+count-1.
    """
    if runtime.is_on_cpus(strategy):
        return make_batches(*own_replicas(strategy))

    def pipeline(context):
        count = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * count
        return one_by_one(make_batches(context.num_replicas_in_sync, first, count))

    return strategy.distribute_datasets_from_function(pipeline)


def own_replicas(strategy):
    """Gives (replicas in all, the first of this worker's, how many are this worker's)."""
    replicas = strategy.num_replicas_in_sync
    count = replicas // worker_count(strategy)
    return replicas, worker_rank(strategy) * count, count


def run_call(function, iterator, steps, *arguments):
    """Calls a `tf.function` on the next batches, traced once for any number of rows and steps.

    Args:
        function: a `tf.function` of (batches, steps, *arguments), which gives `batches` to `take`.
        iterator: what `iter` makes of `Source.deliver` or `Batches.deliver`.
        steps: how many batches it takes, an int; it gets them as an int64 scalar.
        *arguments: more arguments of the function.
    """
    batches = of_call(iterator, steps)
    if isinstance(batches, Picks) and iterator.is_new_to(function):
        function.get_concrete_function(batches.open_spec, tf.TensorSpec([], tf.int64), *arguments)
    return function(batches, tf.constant(steps, tf.int64), *arguments)


def of_call(iterator, steps):
    """Gives what a call takes its batches from, so many steps long, for `take`."""
    return iterator.picks(steps) if isinstance(iterator, Reading) else iterator


def take(strategy, batches, step=0):
    """Takes a global batch, also in a function being traced.

    Args:
        strategy: the `tf.distribute.Strategy`.
        batches: what `of_call` gives, or an iterator of `deliver`: then it is the next batch.
        step: the step of the call.

    Returns:
        A `Share` for `strategy.run`: on several replicas its tensors are per-replica values.
    """
    element = batches.shares(step) if isinstance(batches, Picks) else next(batches)
    if not runtime.is_on_cpus(strategy):
        return element
    if len(element) == 1:
        return element[0]
    return strategy.experimental_distribute_values_from_function(
        lambda context: element[context.replica_id_in_sync_group % len(element)]
    )


def one_by_one(batches):
    """Gives the same shares, one an element, as `tf.distribute` hands them to a worker's replicas in turn."""

    @as_written
    def spread(*shares):
        first, *others = map(tf.data.Dataset.from_tensors, shares)
        for other in others:
            first = first.concatenate(other)
        return first

    return batches.flat_map(spread).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
