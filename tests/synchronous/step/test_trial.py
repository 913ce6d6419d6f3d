"""What is tried on a few rows: which losses are means over rows, and which metrics add up."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from equivalence import coupled_cases as written

import tfdist
from tfdist.internals.patches import statistics
from tfdist.synchronous.step import trial
from tfdist.synchronous.step.trial import Finding

pytestmark = pytest.mark.core
losses = keras.losses

LABELS = np.arange(12) % 3
VECTORS = np.random.default_rng(0).normal(size=(12, 8)).astype("float32")
# By NumPy, because TensorFlow must not start before its devices are split.
CLASSES = np.exp(VECTORS) / np.exp(VECTORS).sum(-1, keepdims=True)
ONE_HOT = np.eye(8, dtype="float32")[LABELS]
BITS = (VECTORS > 0).astype("float32")
SCORES = 1 / (1 + np.exp(-VECTORS))


@pytest.fixture(autouse=True)
def _as_in_the_step():
    with statistics.global_statistics():
        yield


def tensors(*arrays):
    return [tf.constant(array) for array in arrays]


def squares_in_float32(y_true, y_pred):
    """Casts by itself, as many losses do."""
    return tf.reduce_mean((tf.cast(y_true, tf.float32) - tf.cast(y_pred, tf.float32)) ** 2, axis=-1)


def squares_as_a_scalar(y_true, y_pred):
    return tf.reduce_mean((y_true - y_pred) ** 2)


def with_nan_at_first(y_true, y_pred):
    """Is not finite for the outputs themselves."""
    return tf.reduce_mean(tf.math.log(y_pred), axis=-1)


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred"),
    [
        (losses.MeanSquaredError(), BITS, VECTORS),
        (losses.MeanSquaredError(reduction="sum"), BITS, VECTORS),
        (losses.MeanSquaredError(reduction=None), BITS, VECTORS),
        (losses.MeanSquaredError(reduction="mean_with_sample_weight"), BITS, VECTORS),
        (losses.MeanAbsoluteError(), BITS, VECTORS),
        (losses.Huber(), BITS, VECTORS),
        (losses.LogCosh(), BITS, VECTORS),
        (losses.CosineSimilarity(), BITS, VECTORS),
        (losses.Hinge(), BITS, VECTORS),
        (losses.CategoricalHinge(), ONE_HOT, VECTORS),
        (losses.CategoricalCrossentropy(label_smoothing=0.1), ONE_HOT, CLASSES),
        (losses.SparseCategoricalCrossentropy(), LABELS, CLASSES),
        (losses.SparseCategoricalCrossentropy(from_logits=True), LABELS, VECTORS),
        (losses.BinaryCrossentropy(), BITS, SCORES),
        (losses.BinaryFocalCrossentropy(), BITS, SCORES),
        (losses.KLDivergence(), CLASSES, CLASSES[::-1]),
        (losses.Poisson(), BITS, SCORES),
        (losses.Dice(axis=1), BITS, SCORES),
        (losses.Tversky(axis=1), BITS, SCORES),
        (losses.MeanSquaredError(dtype="float16"), BITS, VECTORS),
        (losses.MeanSquaredError(dtype="bfloat16"), BITS, VECTORS),
        (squares_in_float32, BITS, VECTORS),
        (squares_as_a_scalar, BITS, VECTORS),
        (losses.CTC(), LABELS.reshape(6, 2) + 1, np.random.default_rng(1).normal(size=(6, 5, 8)).astype("float32")),
    ],
)
def test_a_loss_of_single_rows_is_left_as_it_is(loss, y_true, y_pred):
    assert trial.try_loss(loss, *tensors(y_true, y_pred)) == Finding.ROWS


@pytest.mark.parametrize(
    ("loss", "y_true", "y_pred"),
    [
        (losses.Dice(), BITS, SCORES),
        (losses.Tversky(), BITS, SCORES),
        (losses.Circle(), LABELS, VECTORS),
        (losses.Dice(dtype="bfloat16"), BITS, SCORES),
        (written.InBatchSoftmax(), LABELS, VECTORS),
        (written.InBatchSoftmax(reduction="sum"), LABELS, VECTORS),
        (written.InBatchSoftmax(reduction=None), LABELS, VECTORS),
        (written.TripletLoss(), LABELS, VECTORS),
        (written.triplets, LABELS, VECTORS),
        # No two rows have one label, so no triplet is active.
        (written.triplets, np.arange(12), VECTORS),
        # The outputs of an untrained model may all be alike.
        (written.negatives, LABELS, np.zeros_like(VECTORS)),
        (written.correlation, BITS[:, :2], VECTORS),
        (written.ranking, BITS[:, :2], VECTORS),
        (written.summed, BITS[:, :2], VECTORS),
        (written.standardized, BITS[:, :2], VECTORS),
        (written.embedding_norms, LABELS, VECTORS),
        (written.of_eight_rows, LABELS[:8], VECTORS[:8]),
    ],
)
def test_a_loss_in_which_rows_depend_on_each_other_is_found(loss, y_true, y_pred):
    assert trial.try_loss(loss, *tensors(y_true, y_pred)) == Finding.COUPLED


def test_a_loss_is_tried_with_the_weights_that_it_is_given():
    weights = tf.ones([12])
    given = tensors(BITS, VECTORS)
    assert trial.try_loss(written.MeanByWeights(), *given) == Finding.ROWS
    assert trial.try_loss(written.MeanByWeights(), *given, weights) == Finding.COUPLED
    assert trial.try_loss(losses.MeanSquaredError(), *given, weights) == Finding.ROWS


def test_a_metric_is_tried_with_the_weights_that_it_is_given():
    weights = tf.zeros([12])
    given = tensors(LABELS, CLASSES)
    assert trial.try_metric(written.RelativeSureness(), *given) == Finding.ROWS
    assert trial.try_metric(written.RelativeSureness(), *given, weights) == Finding.COUPLED
    assert trial.try_metric(metrics.SparseCategoricalAccuracy(), *given, weights) == Finding.ROWS


def test_a_loss_that_is_no_number_for_the_outputs_is_tried_on_others():
    assert trial.try_loss(with_nan_at_first, *tensors(BITS, CLASSES - 0.2)) in (Finding.ROWS, Finding.UNKNOWN)
    assert trial.try_loss(with_nan_at_first, *tensors(BITS, CLASSES)) == Finding.ROWS


def test_what_takes_care_of_the_replicas_itself_is_left_as_it_is():
    assert trial.try_loss(written.gathered_negatives, *tensors(LABELS, VECTORS)) == Finding.OWN
    assert trial.try_loss(written.global_negatives, *tensors(LABELS, VECTORS)) == Finding.OWN


def test_what_fails_or_is_drawn_at_random_is_unknown():
    def fails(y_true, y_pred):
        raise RuntimeError

    def random(y_true, y_pred):
        return tf.reduce_mean(y_pred * tf.random.normal(tf.shape(y_pred), dtype=y_pred.dtype))

    assert trial.try_loss(fails, *tensors(BITS, VECTORS)) == Finding.UNKNOWN
    assert trial.try_loss(random, *tensors(BITS, VECTORS)) == Finding.UNKNOWN


metrics = keras.metrics


@pytest.mark.parametrize(
    ("make", "y_true", "y_pred"),
    [
        (metrics.MeanSquaredError, BITS, VECTORS),
        (metrics.RootMeanSquaredError, BITS, VECTORS),
        (lambda: metrics.AUC(num_thresholds=20), BITS, SCORES),
        (metrics.Precision, BITS, SCORES),
        (lambda: metrics.F1Score(threshold=0.5), BITS, SCORES),
        (metrics.R2Score, BITS, VECTORS),
        (lambda: metrics.MeanIoU(8, sparse_y_pred=False), LABELS, CLASSES),
        (metrics.SparseCategoricalAccuracy, LABELS, CLASSES),
        (lambda: metrics.TopKCategoricalAccuracy(2), ONE_HOT, CLASSES),
        (metrics.CosineSimilarity, BITS, VECTORS),
        (metrics.BinaryAccuracy, BITS, SCORES),
        (lambda: metrics.MeanMetricWrapper(squares_as_a_scalar), BITS, VECTORS),
        (written.Sureness, LABELS, CLASSES),
    ],
)
def test_a_metric_that_adds_up_is_left_as_it_is(make, y_true, y_pred):
    metric = make()
    metric.update_state(*tensors(y_true, y_pred))
    before = [np.asarray(variable) for variable in metric.variables]
    assert trial.try_metric(metric, *tensors(y_true, y_pred)) == Finding.ROWS
    for variable, value in zip(metric.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg="the trial must leave the metric as it is")


class SmallestWithoutReset(metrics.Metric):
    """A minimum, which begins with infinity."""

    def __init__(self):
        super().__init__()
        self.value = self.add_variable((), keras.initializers.Constant(np.inf))

    def reset_state(self):
        self.value.assign(np.inf)

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(tf.minimum(self.value, tf.reduce_min(y_pred)))

    def result(self):
        return self.value


class LargestSum(metrics.Metric):
    """The largest sum of a batch: it adds up in the first step alone."""

    def __init__(self):
        super().__init__()
        self.value = self.add_variable((), "zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(tf.maximum(self.value, tf.reduce_sum(tf.square(y_pred[:, 0]))))

    def result(self):
        return self.value


def test_what_one_row_alone_shows_is_found():
    assert trial.try_metric(written.RareClass(), *tensors(np.array([0] * 8 + [2]), VECTORS[:9])) == Finding.COUPLED


@pytest.mark.parametrize(
    "make",
    [
        *(written.Largest, written.MeanOfBatches, written.Steps, written.Last, written.Seen),
        lambda: metrics.MeanMetricWrapper(written.median),
        lambda: metrics.MeanMetricWrapper(keras.losses.dice),
        *(SmallestWithoutReset, LargestSum),
    ],
)
def test_a_metric_whose_state_is_no_sum_is_found(make):
    assert trial.try_metric(make(), *tensors(LABELS if make is written.Seen else BITS, SCORES)) == Finding.COUPLED


def test_a_metric_of_the_rows_of_all_replicas_is_left_as_it_is():
    class Gathers(written.Largest):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_true, tfdist.gather_rows(y_pred))

    assert trial.try_metric(Gathers(), *tensors(LABELS, VECTORS)) == Finding.OWN


def test_copies_stay_what_the_outputs_are():
    for _, outputs in trial.copies(*tensors(LABELS, CLASSES)):
        np.testing.assert_allclose(np.sum(outputs, axis=-1), 1, atol=1e-5)
    for _, outputs in trial.copies(*tensors(BITS, SCORES)):
        assert np.min(outputs) >= 0
        assert np.max(outputs) <= 1
    assert len(list(trial.copies(*tensors(BITS, VECTORS)))) == 3


def test_nothing_but_rounding_is_near():
    assert trial.is_near(np.float32(1.0), np.float32(1.0 + 1e-6))
    assert not trial.is_near(np.float32(1.0), np.float32(1.001))
    assert not trial.is_near(np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    assert trial.is_near(np.array([1.0, np.inf]), np.array([1.0, np.inf]))
    assert not trial.is_near(np.array([np.inf]), np.array([-np.inf]))
