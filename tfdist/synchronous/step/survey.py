"""Finds before the first step what a replica's step would exchange."""

import functools
from typing import NamedTuple

import keras
import tensorflow as tf

from tfdist.gradients.factors import Use
from tfdist.internals.access import models
from tfdist.internals.access.kept import kept
from tfdist.internals.access.replica import Rows, rows_are
from tfdist.internals.access.tracing import compiled
from tfdist.strategy.replicas import run_on_replicas
from tfdist.synchronous.step.step import keras_for_gradients, loss_of


class Survey(NamedTuple):
    """The sizes that vary with the batch.

    Attributes:
        uses: dict: place of a trainable variable → list of its `factors.Use`s.
        sparse: dict: place of a variable with a sparse gradient → that gradient's rows, None if not known in tracing.
    """

    uses: dict[int, list[Use]]
    sparse: dict[int, int | None]


def survey(model, exchange, spec, form):
    """Traces a replica's step without its update; keeps the result for the next `fit`, because tracing takes long.

    Args:
        model: a compiled, built `keras.Model`.
        exchange: an `AllReduce`, perhaps a `FactorExchange`.
        spec: nested specs of a replica's batch.
        form: the `Form` of the shares.

    Returns:
        A `Survey`.
    """
    name = "survey", exchange, tuple(tf.nest.flatten(spec)), form
    find = functools.partial(_survey, model, exchange, spec, form)
    return kept(model, name, find, models.compile_token(model))


def _survey(model, exchange, spec, form):
    uses, found = {}, []
    variables = list(model.trainable_variables)

    def replica_survey(backward, batch, count):
        rows = Rows(count, count, tf.zeros_like(count), form.padded, form.most)
        with rows_are(rows), tf.GradientTape() as tape, exchange.recording(variables) as recorder:
            loss, _ = loss_of(model, *keras.utils.unpack_x_y_sample_weight(batch))
        uses.update(recorder.uses)
        found[:] = tape.gradient(loss, variables) if backward else []

    def trace(backward):
        def run(batch, count):
            run_on_replicas(model.distribute_strategy, functools.partial(replica_survey, backward), batch, count)

        # An argument and no constant, which TensorFlow would take for the shape of what all replicas gather.
        count = tf.TensorSpec([], tf.int64)
        with keras_for_gradients(model, exchange, form):
            return compiled(run).get_concrete_function(spec, count).graph

    # Only weights whose rows are looked up have sparse gradients. Most models look nothing up, and tracing takes long.
    if _looks_up(trace(backward=False)):
        trace(backward=True)
    sparse = {place: gradient for place, gradient in enumerate(found) if isinstance(gradient, tf.IndexedSlices)}
    return Survey(uses, {place: gradient.indices.shape[0] for place, gradient in sparse.items()})


def _looks_up(graph):
    """Returns whether a graph or one of its functions gathers rows."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return any("Gather" in node.op and "Collective" not in node.op for node in nodes)
