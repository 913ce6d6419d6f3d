"""The gradient of a dense weight as its factors: Σ xᵀ·dy, multiplied only once those of all replicas are together.

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
        pairs: tuple of (x, dy), one a product: (rows, inputs) and (rows, outputs). Between processes, the rows must be
            as many in every step of a call, for TensorFlow's collectives know each tensor by one shape.
        scaled: tuple of (scalar, tensor of the weight's shape), one a regularizer: the scalars are to be summed over
            the replicas, the tensors are the same on all of them.
        rest: what came to the weight by other ways, a tensor; or None.
        factor: a scalar that the sum is to be multiplied with; or None.
    """

    pairs: tuple
    scaled: tuple
    rest: tf.Tensor | None
    factor: tf.Tensor | None = None


class Use(NamedTuple):
    """One product of a weight and its input.

    Attributes:
        rows: of x, such as one a token; None where tracing does not tell.
        inputs, outputs: the columns of x and of dy.
        dtype: the type of both.
        itemsize: bytes of a number while it crosses the replicas.
    """

    rows: int | None
    inputs: int
    outputs: int
    dtype: tf.DType
    itemsize: int


# In place of the weights that were chosen: all of them.
EVERY = "every"


class Listener:
    """Hears the products of one replica while its gradients are traced, and keeps the factors of chosen weights.

    Args:
        variables: the trainable variables.
        wire: None, or the floating type in which wider ones cross the replicas.
        chosen: the weights whose factors are kept: tuple of (place, (rows of each product, ...)), to which fewer rows
            are filled up with zeros, which add nothing; or `EVERY` weight, whatever its rows.
        alike: whether all products have as many rows already.

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
        self._going_back = False
        self._pairs = {}
        self._scaled = {}
        self._graph = tf.compat.v1.get_default_graph()

    @contextlib.contextmanager
    def listening(self):
        """Listens to the forward pass."""
        products.listen(self)
        try:
            yield
        finally:
            products.listen(None)

    def gradients(self, tape, target):
        """Gives what `tape.gradient` gives for the variables, and `Factors` for the chosen ones."""
        self._going_back = True
        found = tape.gradient(target, self._variables)
        self._going_back = False
        return [self._with_factors(place, gradient) for place, gradient in enumerate(found)]

    def _with_factors(self, place, gradient):
        pairs, scaled = (tuple(heard.get(place, ())) for heard in (self._pairs, self._scaled))
        if not pairs and not scaled:
            return gradient
        return Factors(pairs, scaled, None if gradient is None else tf.convert_to_tensor(gradient))

    def product(self, variable, x, form):
        """Multiplies x with a weight, so that the backward pass leaves the factors of the weight's gradient here."""
        place = self._places.get(id(variable))
        kernel = tf.convert_to_tensor(variable)
        if place is None or kernel.dtype != x.dtype or not x.dtype.is_floating or not self._is_here():
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
                    self._pairs.setdefault(place, []).append(tuple(self._filled(part, rows) for part in pair))
                    return form.back(dy, kernel), None
                return form.back(dy, kernel), tf.reshape(tf.matmul(*pair, transpose_a=True), kernel.shape)

            return form.multiply(x, kernel), back

        return multiply(x, kernel)

    def regularizer(self, variable, function):
        """Gives the regularizer of a weight, whose gradient is the same on all replicas but for a scalar."""
        place = self._places.get(id(variable))
        if place is None or not self._is_here():
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

    def _filled(self, part, rows):
        if rows is None:
            return part
        whole = part if self._alike else tf.pad(part, [[0, rows - tf.shape(part)[0]], [0, 0]])
        return tf.ensure_shape(whole, [rows, part.shape[1]])

    def _is_here(self):
        # What is made inside a loop, a branch or a function of its own cannot be taken out of it.
        return tf.compat.v1.get_default_graph() is self._graph

    def _keeps(self, place):
        if not self._going_back or place not in self.uses or not self._is_here():
            return False
        # A weight with other products than when it was chosen is reduced, as long as all replicas see the same.
        return self._chosen == EVERY or len(self._chosen.get(place, ())) == len(self.uses[place])


def reduce_factors(gradients, variables, wire, caller):
    """Sums `Factors` over the replicas; call it in replica context.

    Args:
        gradients: list of `Factors`.
        variables: their weights.
        wire: None, or the floating type in which wider ones cross the replicas.
        caller: who asks, for messages.

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
        # Half precision holds the factors, not the sums over their rows.
        terms = [_multiply(next(gathered), next(gathered), variable) for _ in gradient.pairs]
        terms += [restored(*next(sums), variable.dtype) * direction for _, direction in gradient.scaled]
        terms += [restored(*next(sums), variable.dtype)] if gradient.rest is not None else []
        total = tf.add_n(terms)
        results.append(total if gradient.factor is None else total * tf.cast(gradient.factor, total.dtype))
    return results


def _summed_parts(gradient):
    return [scalar for scalar, _ in gradient.scaled] + ([] if gradient.rest is None else [gradient.rest])


def _multiply(x, dy, variable):
    """Multiplies what `restored` takes of both, but for the type."""
    x, dy = (restored(*part, variable.dtype) for part in (x, dy))
    return tf.reshape(tf.matmul(x, dy, transpose_a=True), variable.shape)


def tensors_of(gradient):
    """Lists the tensors that make a gradient, of whatever form, and that differ between replicas."""
    return [*gathered_of(gradient), *summed_of(gradient)]


def gathered_of(gradient):
    """Lists those of them that every replica gets from each other one as they are."""
    if isinstance(gradient, Factors):
        return [part for pair in gradient.pairs for part in pair]
    return [gradient.values, gradient.indices] if isinstance(gradient, tf.IndexedSlices) else []


def summed_of(gradient):
    """Lists those of them that are summed over the replicas."""
    if isinstance(gradient, Factors):
        return _summed_parts(gradient)
    return [] if gradient is None or isinstance(gradient, tf.IndexedSlices) else [gradient]
