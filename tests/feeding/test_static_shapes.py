"""Batches of one shape: what a TPU needs, on logical CPU devices and under XLA on the CPU.

`needs_static_shapes` is made true here, because there is no TPU; the reference is the same training without padding.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from equivalence import coupled_cases as written
from support import jobs

import tfdist
from tfdist.data.delivery.delivery import Places, one_by_one
from tfdist.data.delivery.share import Form
from tfdist.data.sources.arrays import from_arrays
from tfdist.options.step import StepOptions
from tfdist.strategy import choose as strategies
from tfdist.synchronous.step.measurements import NoClock
from tfdist.synchronous.step.step import Step

pytestmark = pytest.mark.slow

ROWS = 45


@pytest.fixture
def static(monkeypatch):
    """Makes every strategy need static shapes."""

    def switch(on):
        monkeypatch.setattr(strategies, "needs_static_shapes", lambda strategy: on)

    return switch


def masked_model():
    """A model with a mask, batch statistics, weights, and metrics that are not means."""
    keras.utils.set_random_seed(3)
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(11, 4, mask_zero=True)(tokens)
    x = keras.layers.Dense(5, activation="tanh")(x)
    y = keras.layers.Dense(2, activation="softmax")(x)
    model = keras.Model(tokens, y)
    model.compile(
        keras.optimizers.SGD(0.3, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
    )
    return model


def batchnorm_model():
    """A convolution with BatchNormalization, regularized, with a metric of areas."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 1)),
            layers.Conv1D(3, 3, kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    loss = keras.losses.BinaryCrossentropy(reduction="mean_with_sample_weight")
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy", keras.metrics.AUC(name="auc")])
    return model


def rows_for(build):
    random = np.random.RandomState(1)
    if build is masked_model:
        x = random.randint(0, 11, (ROWS, 6))
        return x, (x % 2).astype("int32"), random.rand(ROWS, 6)
    x = random.randn(ROWS, 6, 1)
    return x, (x.sum(1) > 0).astype("float64"), random.rand(ROWS)


def run(strategy, build, global_batch):
    """Trains, evaluates and predicts; returns all results."""
    with strategy.scope():
        model = build()
    source = from_arrays(*rows_for(build), global_batch=global_batch, seed=2)
    history = tfdist.fit(model, source, epochs=2, validation_data=source, verbose=0).history
    results = tfdist.evaluate(model, source, verbose=0)
    x = rows_for(build)[0]
    return jobs.weights_of(model), history, results, tfdist.predict(model, x, batch_size=global_batch, verbose=0)


@pytest.mark.parametrize("build", [masked_model, batchnorm_model])
@pytest.mark.parametrize("replicas, global_batch", [(2, 16), (3, 16), (4, 7)])
def test_padded_batches_train_evaluate_and_predict_as_unpadded_ones(
    make_strategy, float64, static, build, replicas, global_batch
):
    static(False)
    expected = run(make_strategy(replicas), build, global_batch)
    static(True)
    found = run(make_strategy(replicas), build, global_batch)
    for there, here in zip(expected, found, strict=True):
        keras.tree.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9), there, here)


def test_every_share_has_one_shape_and_says_how_many_rows_count(make_strategy):
    source = jobs.small_source(20)
    static = source.__class__(source.name, source.reader, source.plan, static_shapes=True)
    dataset = one_by_one(static.local_batches(Places(replicas=3, first=0, own=3), epoch=0, step=0))
    assert dataset.element_spec.batch[0].shape == (7, jobs.WIDTH)
    counts = [int(share.replica_rows) for share in dataset.take(18)]
    assert counts == [6, 7, 7] * 5 + [1, 1, 1]
    assert static.form(3) == Form(may_be_empty=False, padded=True)
    assert not static.form(1).padded or static.rows % 20


def test_the_whole_padded_step_compiles_under_xla(make_strategy, float64):
    """Loss, gradients, statistics and metrics of a share with padding, in one XLA program with static shapes."""
    strategy = make_strategy(1)
    with strategy.scope():
        model = batchnorm_model()
    source = from_arrays(*rows_for(batchnorm_model), global_batch=16, shuffle=False)
    static = source.__class__(source.name, source.reader, source.plan, static_shapes=True)
    (share,) = next(iter(static.local_batches(Places(replicas=1, first=0, own=1), epoch=0, step=2)))
    tfdist.evaluate(model, source, verbose=0)
    step = Step(model, strategy, StepOptions(jit_compile=False))
    model.reset_metrics()

    @tf.function(jit_compile=True)
    def compiled(share):
        step.test(share, static.form(1), NoClock())

    compiled(share)
    logs = {name: float(value) for name, value in step.logs().items()}
    x, y, weights = (part[32:] for part in rows_for(batchnorm_model))
    oracle = tfdist.evaluate(model, x, y, sample_weight=weights, return_dict=True, verbose=0)
    assert logs == pytest.approx(oracle, abs=1e-9)


def test_a_batch_that_cannot_be_padded_is_left_out_of_training_with_a_log_line(make_strategy, static, caplog):
    def build():
        return keras.Sequential(
            [keras.Input((jobs.WIDTH,)), keras.layers.Dense(3, activity_regularizer="l2", activation="softmax")]
        )

    def train(source):
        keras.utils.set_random_seed(1)
        strategy = make_strategy(2)
        with strategy.scope():
            model = build()
            model.compile("sgd", "sparse_categorical_crossentropy")
        tfdist.fit(model, source, epochs=2, verbose=0)
        return jobs.weights_of(model)

    static(True)
    with caplog.at_level("INFO", "tfdist"):
        found = train(jobs.small_source(20))
    assert "the last, smaller batch of each epoch is left out" in caplog.text
    assert "activity regularizer of layer 'dense" in caplog.text
    static(False)
    np.testing.assert_allclose(found, train(jobs.small_source(20, drop_remainder=True)), atol=1e-6)
    static(True)
    with pytest.raises(ValueError, match="Use batches that 2 replicas divide"):
        train(jobs.small_source(21))


def test_what_cannot_tell_padding_is_refused_with_the_cure(make_strategy, static):
    static(True)
    x, y = jobs.make_rows(dtype="float32")

    def fit(loss="sparse_categorical_crossentropy", layers=(), data=(x, y)):
        strategy = make_strategy(2)
        with strategy.scope():
            model = keras.Sequential([keras.Input((jobs.WIDTH,)), *layers, keras.layers.Dense(3, activation="softmax")])
            model.compile("sgd", loss)
        tfdist.fit(model, *data, batch_size=None if len(data) == 1 else 20, verbose=0)

    def scalar_loss(y, y_pred):
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred))

    class Adding(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.mean(inputs))
            return inputs

    with pytest.raises(ValueError, match="a loss is a scalar"):
        fit(scalar_loss)
    with pytest.raises(ValueError, match="the loss that layer 'adding' adds is a scalar"):
        fit(layers=[Adding(name="adding")])
    with pytest.raises(ValueError, match="a TPU needs batches of one fixed shape"):
        fit(data=(tf.data.Dataset.from_tensor_slices((x, y)).batch(20),))
    fit(data=(tf.data.Dataset.from_tensor_slices((x, y)).batch(21, drop_remainder=True),))


def test_only_a_tpu_needs_static_shapes(make_strategy):
    assert not any(strategies.needs_static_shapes(make_strategy(replicas)) for replicas in (1, 2))
    assert strategies.needs_static_shapes(tf.distribute.TPUStrategy.__new__(tf.distribute.TPUStrategy))


def coupled_model():
    """A loss and a layer in which rows depend on each other, and a metric whose state is no sum."""
    keras.utils.set_random_seed(3)
    layers = [keras.Input((6, 1)), keras.layers.Flatten(), keras.layers.Dense(8)]
    model = keras.Sequential([*layers, written.LosesGlobally(), written.Decorrelated()])
    model.compile(keras.optimizers.SGD(0.01), written.InBatchSoftmax(), metrics=[written.Largest()])
    return model


def test_rows_of_all_replicas_are_those_that_count(make_strategy, float64, static):
    static(False)
    expected = run(make_strategy(1), coupled_model, 16)
    static(True)
    found = run(make_strategy(3), coupled_model, 16)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-9)
    for key, values in expected[1].items():
        np.testing.assert_allclose(found[1][key], values, rtol=1e-5, err_msg=key)
