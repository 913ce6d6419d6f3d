"""Exchanges the gradient of a dense weight, Σ xᵀ·dy, by its factors x and dy, which are multiplied after a gather.

Where x and dy have fewer elements than the weight, gathering them sends less than reducing the gradient does, and gives
the same sum (Xie et al., "Distributed Machine Learning via Sufficient Factor Broadcasting", arXiv:1409.5705; Zhang et
al., "Poseidon", USENIX ATC 2017, chooses for each layer by its cost).
"""

import contextlib
import math
from typing import NamedTuple

import tensorflow as tf

from tfdist.gradients.wire import narrowed_type, restored, rounded
from tfdist.internals.access.collectives import gather_rows, sum_over_replicas
from tfdist.internals.patches import products


class Factors(NamedTuple):
    """One replica's part of the gradient of a weight, not yet multiplied.

    Attributes:
        pairs: tuple of (x, dy), one for each product: (rows, inputs) and (rows, outputs). Between processes, the number
            of rows must be the same in every step of a call, because TensorFlow's collectives know each tensor by one
            shape.
        scaled: tuple of (scalar, tensor of the weight's shape), one for each regularizer: the scalars are to be summed
            over the replicas, the tensors are the same on all of them.
        rest: the other parts of the weight's gradient, a tensor; or None.
        factor: a scalar by which the sum is to be multiplied; or None.
    """

    pairs: tuple[tuple[tf.Tensor, tf.Tensor], ...]
    scaled: tuple[tuple[tf.Tensor, tf.Tensor], ...]
    rest: tf.Tensor | None
    factor: tf.Tensor | None = None


class Use(NamedTuple):
    """One product of a weight and its input.

    Attributes:
        rows: the rows of x, such as one per token; None where they are unknown during tracing.
        inputs, outputs: the columns of x and of dy.
        dtype: the type of both.
        itemsize: bytes of a number while it is exchanged.
    """

    rows: int | None
    inputs: int
    outputs: int
    dtype: tf.DType
    itemsize: int


# Stands for all weights, in place of the chosen ones.
EVERY = "every"


class Listener:
    """Observes the products of one replica while its gradients are traced, and keeps the factors of chosen weights.

    Args:
        variables: the trainable variables.
        wire: None, or the floating type to which wider numbers are rounded for the exchange.
        chosen: the weights whose factors are kept: tuple of (place, (rows of each product, ...)). Fewer rows are padded
            to these with zeros, which add nothing. `EVERY` keeps the factors of all weights, with any number of rows.
        alike: whether all products have that number of rows already.

    Attributes:
        uses: dict: place of a variable → list of its `Use`s.
    """

    def __init__(self, variables, wire, chosen, alike=False):
        self._places = {id(variable): place for place, variable in enumerate(variables)}
        self._variables = variables
        self._wire = wire
        self._chosen = chosen if chosen == EVERY else dict(chosen)
        self._alike = alike
        self.uses = {}
        self._in_backward_pass = False
        self._pairs = {}
        self._scaled = {}
        self._graph = tf.compat.v1.get_default_graph()

    @contextlib.contextmanager
    def listening(self):
        """Observes the forward pass while the context is entered."""
        products.listen(self)
        try:
            yield
        finally:
            products.listen(None)

    def gradients(self, tape, target):
        """Returns what `tape.gradient` returns for the variables, but `Factors` for the chosen ones."""
        self._in_backward_pass = True
        found = tape.gradient(target, self._variables)
        self._in_backward_pass = False
        return [self._with_factors(place, gradient) for place, gradient in enumerate(found)]

    def _with_factors(self, place, gradient):
        pairs, scaled = (tuple(kept.get(place, ())) for kept in (self._pairs, self._scaled))
        if not pairs and not scaled:
            return gradient
        return Factors(pairs, scaled, None if gradient is None else tf.convert_to_tensor(gradient))

    def product(self, variable, x, form):
        """Multiplies x by a weight, so that the backward pass keeps the factors of the weight's gradient here."""
        place = self._places.get(id(variable))
        kernel = tf.convert_to_tensor(variable)
        if place is None or kernel.dtype != x.dtype or not x.dtype.is_floating or not self._is_in_own_graph():
            return None
        inputs, outputs = (
            math.prod(part) for part in (kernel.shape[: form.contracted], kernel.shape[form.contracted :])
        )
        own = self.uses.setdefault(place, [])
        number = len(own)
        rows = x.shape[: x.shape.rank - form.contracted].num_elements()
        own.append(Use(rows, inputs, outputs, x.dtype, narrowed_type(x.dtype, self._wire).size))

        @tf.custom_gradient
        def multiply(x, kernel):
            def back(dy):
                pair = tf.reshape(x, [-1, inputs]), tf.reshape(dy, [-1, outputs])
                if self._keeps(place):
                    rows = None if self._chosen == EVERY else self._chosen[place][number]
                    self._pairs.setdefault(place, []).append(tuple(self._padded(part, rows) for part in pair))
                    return form.back(dy, kernel), None
                return form.back(dy, kernel), tf.reshape(tf.matmul(*pair, transpose_a=True), kernel.shape)

            return form.multiply(x, kernel), back

        return multiply(x, kernel)

    def regularizer(self, variable, function):
        """Returns the regularizer of a weight, with a gradient that is the same on all replicas except for a scalar."""
        place = self._places.get(id(variable))
        if place is None or not self._is_in_own_graph():
            return function

        def regularize(value):
            @tf.custom_gradient
            def penalty(kernel):
                with tf.GradientTape() as tape:
                    tape.watch(kernel)
                    result = tf.convert_to_tensor(function(kernel))
                direction = tape.gradient(result, kernel)

                def back(upstream):
                    if self._keeps(place):
                        self._scaled.setdefault(place, []).append((upstream, direction))
                        return None
                    return upstream * direction

                return result, back

            return penalty(tf.convert_to_tensor(value))

        return regularize

    def _padded(self, part, rows):
        if rows is None:
            return part
        whole = part if self._alike else tf.pad(part, [[0, rows - tf.shape(part)[0]], [0, 0]])
        return tf.ensure_shape(whole, [rows, part.shape[1]])

    def _is_in_own_graph(self):
        # A tensor that is made inside a loop, a branch or another function cannot be taken out of it.
        return tf.compat.v1.get_default_graph() is self._graph

    def _keeps(self, place):
        if not self._in_backward_pass or place not in self.uses or not self._is_in_own_graph():
            return False
        # A weight that has other products than when it was chosen is reduced, provided that all replicas see the same.
        return self._chosen == EVERY or len(self._chosen.get(place, ())) == len(self.uses[place])


def reduce_factors(gradients, variables, wire, caller):
    """Sums `Factors` over the replicas; call it in replica context.

    Args:
        gradients: list of `Factors`.
        variables: their weights.
        wire: None, or the floating type to which wider numbers are rounded for the exchange.
        caller: the name of the caller, for messages.

    Returns:
        The list of sums, tensors of the weights' shapes, the same on every replica.
    """
    pairs = [pair for gradient in gradients for pair in gradient.pairs]
    rows, scales = rounded([part for pair in pairs for part in pair], wire, caller)
    gathered = iter(zip(gather_rows(rows, caller), scales, strict=True))
    own = [part for gradient in gradients for part in _summed_parts(gradient)]
    parts, scales = rounded(own, wire, caller)
    sums = iter(zip(sum_over_replicas(parts, caller), scales, strict=True))
    results = []
    for gradient, variable in zip(gradients, variables, strict=True):
        # Half precision suffices for the factors, but not for the sums over their rows.
        terms = [_multiply(next(gathered), next(gathered), variable) for _ in gradient.pairs]
        terms += [restored(*next(sums), variable.dtype) * direction for _, direction in gradient.scaled]
        terms += [restored(*next(sums), variable.dtype)] if gradient.rest is not None else []
        total = tf.add_n(terms)
        results.append(total if gradient.factor is None else total * tf.cast(gradient.factor, total.dtype))
    return results


def _summed_parts(gradient):
    return [scalar for scalar, _ in gradient.scaled] + ([] if gradient.rest is None else [gradient.rest])


def _multiply(x, dy, variable):
    """Multiplies x and dy, which are given as (tensor, scale) and restored first."""
    x, dy = (restored(*part, variable.dtype) for part in (x, dy))
    return tf.reshape(tf.matmul(x, dy, transpose_a=True), variable.shape)


def tensors_of(gradient):
    """Lists the tensors of a gradient, of any form, that differ between replicas."""
    return [*gathered_of(gradient), *summed_of(gradient)]


def gathered_of(gradient):
    """Lists the tensors of a gradient that are gathered from all replicas as they are."""
    if isinstance(gradient, Factors):
        return [part for pair in gradient.pairs for part in pair]
    return [gradient.values, gradient.indices] if isinstance(gradient, tf.IndexedSlices) else []


def summed_of(gradient):
    """Lists the tensors of a gradient that are summed over the replicas."""
    if isinstance(gradient, Factors):
        return _summed_parts(gradient)
    return [] if gradient is None or isinstance(gradient, tf.IndexedSlices) else [gradient]
