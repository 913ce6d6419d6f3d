"""Chooses before the first step how gradients cross the network: by their sizes, and by what is measured as faster."""

import dataclasses
import functools
import math
import statistics
import time
from typing import NamedTuple

import tensorflow as tf

from tfdist.gradients import cost
from tfdist.gradients.factors import Factors, Use
from tfdist.gradients.updates import sum_gradients
from tfdist.gradients.wire import narrowed_type
from tfdist.internals.access import models, runtime
from tfdist.internals.access.kept import kept
from tfdist.internals.access.tracing import compiled
from tfdist.internals.patches import optimizers
from tfdist.process.log import say, warn
from tfdist.run import rundir
from tfdist.strategy.replicas import run_on_replicas
from tfdist.strategy.workers import Workers
from tfdist.synchronous.exchange.exchange import AllReduce, FactorExchange, wire_type

# Smaller weights share a collective with others and take almost no time.
_LEAST_BYTES = 2**16
_ROUNDS = 5
# No round begins after that, because fewer rounds are enough on a slow network.
_LIMIT_SECONDS = 3.0


class Kind(NamedTuple):
    """Weights of one shape that are used in equal products.

    Attributes:
        shape, dtype: of the weights.
        uses: tuple of `factors.Use`: the products of each weight on one replica.
        places: tuple of the weights' places among the trainable variables.
    """

    shape: tuple[int, ...]
    dtype: tf.DType
    uses: tuple[Use, ...]
    places: tuple[int, ...]


class ExchangeSeconds(NamedTuple):
    """The seconds that the gradients of a `Kind` take together, by all-reduce and by factors."""

    reduce_seconds: float
    factor_seconds: float

    @property
    def by_factors(self):
        """Whether the factors are faster."""
        return self.factor_seconds < self.reduce_seconds


def choose(model, options, feed, folder, survey):
    """Chooses how the gradients of a run are exchanged; all workers call it together and get the same result.

    Between workers, the maximum of each size that varies with the batch must be known in advance. "auto" measures both
    ways on tensors of the weights' sizes, and the chief's clock decides. The result is kept in the run's folder,
    because the two ways round differently and a restart must not change weights. With deterministic kernels the seconds
    are not measured but estimated from fixed costs.

    Args:
        model: a compiled, built `keras.Model`.
        options: the `StepOptions`.
        feed: the `Feed` that is trained on.
        folder: a `RunDir`, or None.
        survey: a function (an `AllReduce`, specs of a replica's batch, `Form`) → `survey.Survey`.

    Returns:
        An `AllReduce`, perhaps a `FactorExchange`.
    """
    strategy = model.distribute_strategy
    exchange = AllReduce(wire_type(options, strategy))
    if _may_use_factors(model, options):
        exchange = FactorExchange(exchange.wire, asked=options.exchange)
    if not is_between_workers(strategy) or models.has_own(model, "train_step") or model.run_eagerly:
        return exchange
    if isinstance(exchange, FactorExchange):
        exchange = dataclasses.replace(exchange, chosen=())
    found = survey(exchange, feed.replica_spec or feed.spec, feed.form)
    sparse = tuple(sorted(found.sparse.items()))
    if not all(rows for _, rows in sparse):
        if Workers.of(strategy).is_chief:
            say(
                "Running 1 step per call: the number of embedding rows per batch is unknown. "
                "Pass arrays or a tfdist source."
            )
        exchange, sparse = dataclasses.replace(exchange, one_step=True), ()
    if isinstance(exchange, FactorExchange):
        exchange = dataclasses.replace(exchange, chosen=_choose_factors(found.uses, model, exchange, folder))
    fills_up = bool(sparse or getattr(exchange, "chosen", ()))
    # If nothing is filled up, batches of another size must not make another choice, which would trace the step again.
    return dataclasses.replace(exchange, sparse=sparse, alike=fills_up and feed.batches_are_alike)


def is_between_workers(strategy):
    """Returns whether the replicas communicate over a network."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def say_once(model, line, *, explains_difference=False):
    """Logs a line once for a model, unless it is compiled again; arguments as for `tfdist.process.log.say`."""
    say_it = functools.partial(say, line, explains_difference=explains_difference)
    kept(model, ("said", line), say_it, models.compile_token(model))


def _may_use_factors(model, options):
    refusal = _why_no_factors(model)
    if refusal and options.exchange == "factors":
        say_once(model, f"exchange=factors has no effect because {refusal}: every gradient is all-reduced.")
    strategy = model.distribute_strategy
    if refusal or strategy.num_replicas_in_sync == 1:
        return False
    # Within one machine nothing crosses a network, so the all-reduce is cheaper; between GPUs it was not measured.
    pays = is_between_workers(strategy) and runtime.is_on_cpus(strategy)
    return options.exchange == "factors" or (options.exchange == "auto" and pays)


def _why_no_factors(model):
    """Returns why factors cannot be exchanged; None if they can."""
    if model.run_eagerly:
        return "the model runs eagerly"
    if models.has_own(model, "train_step"):
        return "the model has a train_step of its own"
    if optimizers.accumulation_steps(getattr(model, "optimizer", None)):
        return "the optimizer accumulates gradients"
    return None


def _choose_factors(uses, model, exchange, folder):
    known = {place: tuple(own) for place, own in uses.items() if all(use.rows for use in own)}
    if len(known) < len(uses) and Workers.of(model.distribute_strategy).is_chief:
        say(
            f"exchange={exchange.asked}: the factors of {len(uses) - len(known)} gradients are not used because their "
            "numbers of rows are unknown. Pass arrays or a tfdist source."
        )
    by_factors = known
    if exchange.asked == "auto":
        kinds = tuple(_candidates(model, known, exchange.wire))
        # A run in another folder must have the choice in its own folder too.
        name = "factors", kinds, exchange.wire, folder and folder.path
        find = functools.partial(_resolve, kinds, model, exchange.wire, folder)
        by_factors = [place for kind in kept(model, name, find, models.compile_token(model)) for place in kind.places]
    return tuple((place, tuple(use.rows for use in known[place])) for place in sorted(by_factors))


def _candidates(model, uses, wire):
    """Yields the kinds of the weights whose factors have fewer bytes, the largest weights first."""
    alike, variables, replicas = {}, list(model.trainable_variables), model.distribute_strategy.num_replicas_in_sync
    for place, own in uses.items():
        variable = variables[place]
        dtype = tf.as_dtype(variable.dtype)
        size = _size(variable.shape, dtype, wire)
        fewer = cost.factor_bytes(own, replicas) < cost.reduce_bytes(size, replicas)
        if size >= _LEAST_BYTES and fewer:
            alike.setdefault((size, tuple(variable.shape), dtype, own), []).append(place)
    for (_, shape, dtype, own), places in sorted(alike.items(), key=lambda item: -item[0][0]):
        yield Kind(shape, dtype, own, tuple(places))


def _size(shape, dtype, wire):
    return math.prod(shape) * narrowed_type(dtype, wire).size


def _resolve(kinds, model, wire, folder):
    """Returns the kinds whose factors are exchanged, as read from the folder, or as found now and written there."""
    strategy = model.distribute_strategy
    about = _about(kinds, strategy, wire)
    workers = Workers.of(strategy)
    read = _read(folder, about) if workers.is_chief else None
    is_kept, *flags = workers.broadcast([read is not None, *(read or [False] * len(kinds))])
    if is_kept:
        if workers.is_chief:
            say(f"exchange=auto: the choice is read from {folder.exchange}.")
        return [kind for kind, flag in zip(kinds, flags, strict=True) if flag]
    find, how = (_estimate, "estimated") if runtime.is_deterministic() else (_measure, "measured")
    verdicts = [find(strategy, kind, model.trainable_variables, wire) for kind in kinds]
    numbers = iter(workers.broadcast([seconds for verdict in verdicts for seconds in verdict]) if verdicts else [])
    verdicts = [ExchangeSeconds(next(numbers), next(numbers)) for _ in kinds]
    if workers.is_chief:
        for kind, verdict in zip(kinds, verdicts, strict=True):
            say(f"exchange=auto, {how}: {_line(kind, verdict, strategy.num_replicas_in_sync, wire)}.")
        _write(folder, about, kinds, verdicts, how)
    return [kind for kind, verdict in zip(kinds, verdicts, strict=True) if verdict.by_factors]


def _about(kinds, strategy, wire):
    """Describes in JSON types what the choice depends on."""
    return {
        "replicas": strategy.num_replicas_in_sync,
        "compression": wire.name if wire else "none",
        "weights": [
            {
                "shape": list(kind.shape),
                "products": [[use.rows, use.inputs, use.outputs, use.dtype.name] for use in kind.uses],
                "places": list(kind.places),
            }
            for kind in kinds
        ],
    }


def _read(folder, about):
    """Returns for each kind whether its factors are exchanged; None if the folder has no choice for these kinds."""
    if folder is None or not folder.exchange.is_file():
        return None
    try:
        read = rundir.read_json(folder.exchange)
        # A truncated file fails here, on the chief, and not in the broadcast.
        lines = zip(about["weights"], read["found"], strict=True)
        kept = [bool(line["by_factors"]) for _, line in lines] if read["about"] == about else None
    except (OSError, ValueError, LookupError, TypeError) as error:
        warn(f"{folder.exchange} cannot be read ({error}): the exchange is chosen again, which may change rounding.")
        return None
    if kept is None:
        say(f"exchange=auto: {folder.exchange} is of other workers, batches or weights, so the choice is made again.")
    return kept


def _write(folder, about, kinds, verdicts, how):
    if folder is None or not kinds:
        return
    found = [{**verdict._asdict(), "by_factors": verdict.by_factors} for verdict in verdicts]
    rundir.write_json(folder.exchange, {"about": about, "how": how, "found": found})


def _line(kind, verdict, replicas, wire):
    shape = " × ".join(map(str, kind.shape))
    count = len(kind.places)
    reduced = count * cost.reduce_bytes(_size(kind.shape, kind.dtype, wire), replicas)
    gathered = count * cost.factor_bytes(kind.uses, replicas)
    return (
        f"{count} of {shape}: all-reduce {1e3 * verdict.reduce_seconds:.3g} ms ({reduced / 2**20:.3g} MiB), factors "
        f"{1e3 * verdict.factor_seconds:.3g} ms ({gathered / 2**20:.3g} MiB): "
        f"{'factors' if verdict.by_factors else 'all-reduce'}"
    )


def _estimate(strategy, kind, variables, wire):
    """Returns the `ExchangeSeconds` of the cost model with fixed costs."""
    del variables
    replicas, count = strategy.num_replicas_in_sync, len(kind.places)
    reduce = cost.reduce_seconds(_size(kind.shape, kind.dtype, wire), replicas, cost.USUAL)
    return ExchangeSeconds(count * reduce, count * cost.factor_seconds(kind.uses, replicas, cost.USUAL))


def _measure(strategy, kind, variables, wire):
    """Measures the `ExchangeSeconds`: from (x, dy) of all weights of a kind to the sums of their gradients."""
    weights = [variables[place] for place in kind.places]
    uses = [use for _ in weights for use in kind.uses]
    factors = [
        (tf.ones([use.rows, use.inputs], use.dtype), tf.ones([use.rows, use.outputs], use.dtype)) for use in uses
    ]

    def exchange(by_factors, factors):
        pairs = iter(factors)
        own = [Factors(tuple(next(pairs) for _ in kind.uses), (), None) for _ in weights]
        gradients = own if by_factors else [_multiplied(gradient, kind) for gradient in own]
        # One element of each sum is enough to make TensorFlow compute all of it.
        return tf.add_n([tf.reshape(total, [-1])[0] for total in sum_gradients(gradients, weights, wire)])

    @compiled
    def timed(by_factors, factors):
        results = run_on_replicas(strategy, functools.partial(exchange, by_factors), factors)
        return strategy.experimental_local_results(results)[0]

    seconds = {False: [], True: []}
    for _ in range(_ROUNDS + 1):
        for by_factors, samples in seconds.items():
            begin = time.perf_counter()
            float(timed(by_factors, factors))
            samples.append(time.perf_counter() - begin)
        # All workers must stop together. The first round includes tracing and is not counted.
        (spent,) = Workers.of(strategy).broadcast([sum(map(sum, seconds.values()))])
        if spent > _LIMIT_SECONDS and len(samples) > 1:
            break
    return ExchangeSeconds(*(statistics.median(samples[1:]) for samples in seconds.values()))


def _multiplied(gradient, kind):
    products = [tf.matmul(x, dy, transpose_a=True) for x, dy in gradient.pairs]
    return tf.cast(tf.reshape(tf.add_n(products), kind.shape), kind.dtype)
