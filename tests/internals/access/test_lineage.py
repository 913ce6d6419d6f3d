"""What a scalar is, and which tensors are the same on all replicas, is read from the graph."""

import functools

import pytest
import tensorflow as tf

from tfdist.internals.access.dependence import note_sums
from tfdist.internals.access.lineage import ALIKE, COUPLED, MEAN, SUM, UNKNOWN, Lineage


class _Weight:
    """A variable, made in the first test: TensorFlow's runtime must not start with the import."""

    @functools.cached_property
    def variable(self):
        return tf.Variable([1.0, 2.0])


_weight = _Weight()


def rows_of(x):
    return tf.reduce_sum(tf.square(x * _weight.variable), axis=1)


def count_of(x):
    return tf.cast(tf.shape(x)[0], x.dtype)


def steps(x):
    """Returns (rows, steps), whose lengths are both unknown."""
    return tf.repeat(x, tf.cast(_weight.variable[:1], tf.int32) + 1, axis=1)


def centers(x):
    labels, places = tf.unique(tf.cast(x[:, 0], tf.int32))
    return tf.math.unsorted_segment_mean(x, places, tf.size(labels))


KINDS = {
    "mean": (MEAN, lambda x: tf.reduce_mean(rows_of(x))),
    "mean and a term of the weights": (
        MEAN,
        lambda x: 0.5 * tf.reduce_mean(rows_of(x)) + tf.reduce_sum(_weight.variable**2),
    ),
    "mean of all elements": (MEAN, lambda x: -tf.reduce_mean(x)),
    "sum over features of means over rows": (MEAN, lambda x: tf.reduce_sum(tf.reduce_mean(x, axis=0))),
    "sum by the rows": (MEAN, lambda x: tf.reduce_sum(rows_of(x)) / count_of(x)),
    "sum of shares": (MEAN, lambda x: tf.reduce_sum(rows_of(x) / count_of(x))),
    "two means": (MEAN, lambda x: tf.add_n([tf.reduce_mean(x), tf.reduce_mean(x**2)])),
    "sum": (SUM, lambda x: tf.reduce_sum(rows_of(x))),
    "sum by a number": (SUM, lambda x: tf.reduce_sum(rows_of(x)) / 8.0),
    "sum times a weight": (SUM, lambda x: _weight.variable[0] * tf.reduce_sum(rows_of(x))),
    "half the sum of squares": (SUM, tf.nn.l2_loss),
    "weights alone": (ALIKE, lambda x: tf.sqrt(tf.reduce_sum(_weight.variable**2))),
    "root": (COUPLED, lambda x: tf.sqrt(tf.reduce_mean(rows_of(x)))),
    "quotient of sums": (COUPLED, lambda x: tf.reduce_sum(x) / tf.reduce_sum(x**2)),
    "product of means": (COUPLED, lambda x: tf.reduce_mean(x) * tf.reduce_mean(x**2)),
    "mean and sum": (COUPLED, lambda x: tf.reduce_mean(x) + tf.reduce_sum(x)),
    "sum and a term of the weights": (COUPLED, lambda x: tf.reduce_sum(x) + tf.reduce_sum(_weight.variable)),
    "largest": (COUPLED, tf.reduce_max),
    "mean over steps of sums over rows, of unknown length": (SUM, lambda x: tf.reduce_mean(tf.reduce_sum(steps(x), 0))),
    "sum over steps of means over rows, of unknown length": (
        MEAN,
        lambda x: tf.reduce_sum(tf.reduce_mean(steps(x), 0)),
    ),
    "sum over steps and rows": (SUM, lambda x: tf.reduce_sum(tf.reduce_sum(tf.transpose(steps(x)), 0))),
    "centers of the classes there": (COUPLED, lambda x: tf.reduce_mean(centers(x) ** 2)),
    "a branch": (UNKNOWN, lambda x: tf.cond(x[0, 0] > 0, lambda: tf.reduce_mean(x), lambda: tf.reduce_sum(x))),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of_a_scalar_is_read_from_the_graph(name):
    expected, function = KINDS[name]
    found = []
    _ = _weight.variable

    @tf.function(input_signature=[tf.TensorSpec([None, 2])], autograph=False)
    def trace(x):
        found.append(Lineage(x).kind(function(x)))

    trace.get_concrete_function()
    assert found == [expected]


@pytest.mark.parametrize("batch", [None, "given"])
def test_what_only_sums_lead_to_is_alike(batch):
    found = {}
    _ = _weight.variable

    @tf.function(input_signature=[tf.TensorSpec([None, 2])], autograph=False)
    def trace(x):
        lineage = Lineage(x if batch else None)
        total = tf.reduce_sum(x, axis=0)
        note_sums([total])
        drawn = total + tf.random.normal([2])
        weight = _weight.variable + 0
        values = {
            "sum": total,
            "changed": 2 * total + weight,
            "rows": total + x[0],
            "weight": weight,
            "drawn": drawn,
        }
        branch = tf.function(lambda: found.update(inner=lineage.is_alike(2 * total)), autograph=False)
        branch.get_concrete_function()
        for name, value in values.items():
            found[name] = lineage.is_alike(value), lineage.is_sum(value), lineage.is_drawn(value)

    trace.get_concrete_function()
    assert found == {
        "inner": True,
        "sum": (True, True, True),
        "changed": (True, True, True),
        "rows": (False, False, False),
        "weight": (True, False, True),
        "drawn": (False, False, True),
    }


def test_without_a_graph_nothing_is_known_but_numbers():
    lineage = Lineage(tf.ones([3, 2]))
    assert lineage.kind(tf.reduce_sum(tf.ones([3]))) == UNKNOWN
    assert not lineage.is_alike(tf.ones([]))
    assert lineage.is_alike(2.0)


@pytest.mark.parametrize(
    ("expected", "function"),
    [
        (MEAN, lambda x: tf.reduce_sum(rows_of(x)) / 4),
        (MEAN, lambda x: tf.reduce_sum(rows_of(x) / 4)),
        (MEAN, lambda x: 0.5 * tf.reduce_sum(x) / 8),
        (SUM, lambda x: tf.reduce_sum(rows_of(x)) / 16),
        (SUM, lambda x: tf.reduce_sum(rows_of(x))),
    ],
)
def test_where_the_number_of_rows_is_fixed_a_sum_divided_by_it_is_a_mean(expected, function):
    found = []
    _ = _weight.variable

    @tf.function(input_signature=[tf.TensorSpec([4, 2])], autograph=False)
    def trace(x):
        found.append(Lineage(x).kind(function(x)))

    trace.get_concrete_function()
    assert found == [expected]
