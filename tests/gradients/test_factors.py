"""Gradients exchanged by their factors, or rounded on the way, against plain Keras on one device."""

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.turns import in_turns

import tfdist
from tfdist.gradients import cost
from tfdist.gradients.factors import Use
from tfdist.internals.access import collectives
from tfdist.internals.patches import products

pytestmark = [pytest.mark.core, pytest.mark.slow]

TOKENS, WIDTH, CLASSES, ROWS = 4, 6, 3, 37
layers = keras.layers


class Shared(layers.Layer):
    """A dense layer that is called twice, and whose weight is used once more, transposed, by a product of its own."""

    def __init__(self, tied):
        super().__init__()
        self.dense = layers.Dense(WIDTH)
        self.tied = tied

    def call(self, x):
        x = self.dense(self.dense(x))
        return tf.matmul(x, self.dense.kernel, transpose_b=True) if self.tied else x


class Penalized(keras.Model):
    """A model whose loss has the gradient of its output in it: a backward pass within the forward one."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = self(x, training=training)
        slope = tape.gradient(outputs, x)
        return super().compute_loss(x, y, y_pred, sample_weight) + 0.3 * tf.reduce_mean(slope**2)


class Checkpointed(layers.Layer):
    """A layer that is computed once more in the backward pass."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(WIDTH, activation="tanh")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return tf.recompute_grad(self.dense.call)(x)


def head(x):
    return layers.Dense(CLASSES, activation="softmax")(x)


def with_everything(x):
    shrunk = {"kernel_regularizer": keras.regularizers.L1L2(1e-2, 1e-2)}
    bounded = {"kernel_constraint": keras.constraints.MaxNorm(1.0)}
    x = layers.Dense(7, activation="gelu", **shrunk, **bounded)(layers.Flatten()(x))
    return head(layers.Dense(5, use_bias=False)(x))


def nested(x):
    inner = keras.Sequential([keras.Input((TOKENS, WIDTH)), layers.Dense(5, activation="relu")])
    return head(layers.Flatten()(layers.Dense(4)(inner(x))))


def attention(x):
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.EinsumDense("abc,cd->abd", output_shape=(TOKENS, 4), bias_axes="d")(x)
    # The weight comes with its dimensions the other way round.
    x = layers.EinsumDense("abc,dc->abd", output_shape=(TOKENS, 4))(x)
    return head(layers.Flatten()(x))


def recurrent(x):
    return head(layers.Dense(5)(layers.LSTM(4)(x)))


def of_layer(make_layer, x):
    return head(make_layer()(layers.Dense(WIDTH)(layers.Flatten()(x))))


# Name → (a function inputs → outputs, the class of the model, how many weights go by their factors).
MODELS = {
    "everything": (with_everything, keras.Model, 3),
    "nested": (nested, keras.Model, 3),
    "attention": (attention, keras.Model, 6),
    "shared": (functools.partial(of_layer, functools.partial(Shared, False)), keras.Model, 3),
    "tied": (functools.partial(of_layer, functools.partial(Shared, True)), keras.Model, 3),
    "gradient penalty": (with_everything, Penalized, 3),
    # What is made in a function or a loop of its own stays in it.
    "recomputed": (functools.partial(of_layer, Checkpointed), keras.Model, 2),
    "recurrent": (recurrent, keras.Model, 2),
}


def make_model(name, make_optimizer=None, **options):
    keras.utils.set_random_seed(3)
    body, model_class, _ = MODELS[name]
    inputs = keras.Input((TOKENS, WIDTH))
    model = model_class(inputs, body(inputs))
    make_optimizer = make_optimizer or functools.partial(keras.optimizers.SGD, momentum=0.9, global_clipnorm=0.5)
    model.compile(make_optimizer(0.1), "sparse_categorical_crossentropy", **options)
    return model


def rows():
    random = np.random.RandomState(0)
    return random.randn(ROWS, TOKENS, WIDTH).astype(keras.config.floatx()), random.randint(0, CLASSES, ROWS)


# 37 rows in batches of 8: the last one has 5, which neither two nor three replicas divide.
FIT = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}


def train(strategy, name, **options):
    """Trains by factors; returns (weights, the logged lines about the exchange)."""
    wish = {key: options.pop(key) for key in ("exchange", "compression") if key in options}
    with strategy.scope():
        model = make_model(name, **options)
    with jobs.lines_of_tfdist() as logged:
        tfdist.fit(model, *rows(), **FIT, **{"exchange": "factors", **wish})
    return jobs.weights_of(model), "\n".join(line for line in logged if line.startswith("exchange"))


def train_plainly(name, **options):
    model = make_model(name, **options)
    before = jobs.weights_of(model)
    model.fit(*rows(), **FIT)
    assert np.abs(jobs.weights_of(model) - before).max() > 1e-2
    return jobs.weights_of(model)


@pytest.mark.parametrize(("name", "replicas"), in_turns(MODELS, [2, 3]))
def test_factors_give_one_devices_weights(make_strategy, float64, name, replicas):
    weights, lines = train(make_strategy(replicas), name)
    np.testing.assert_allclose(weights, train_plainly(name), rtol=0, atol=1e-9)
    assert f": {MODELS[name][2]} of " in lines


def test_factors_leave_a_compiled_function(make_strategy, float64):
    weights, lines = train(make_strategy(2), "everything", jit_compile=True)
    np.testing.assert_allclose(weights, train_plainly("everything"), rtol=0, atol=1e-9)
    assert ": 3 of " in lines


def test_factors_of_replicas_without_rows(make_strategy, float64):
    strategy = make_strategy(4)
    with strategy.scope():
        model = make_model("everything")
    tfdist.fit(model, *rows(), **FIT | {"batch_size": 3}, exchange="factors")
    plain = make_model("everything")
    plain.fit(*rows(), **FIT | {"batch_size": 3})
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)


def test_one_replicas_factors_alone_would_be_found(make_strategy, float64, monkeypatch):
    from tfdist.gradients import factors

    monkeypatch.setattr(factors, "gather_rows", lambda values, caller: values)
    with pytest.raises(RuntimeError, match="weights: replica 1 differs from replica 0"):
        train(make_strategy(2), "everything")


def test_half_precision_multiplies_factors_in_single_precision(make_strategy):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        weights, lines = train(make_strategy(2), "everything")
        plain = train_plainly("everything")
    finally:
        keras.config.set_dtype_policy("float32")
    assert ": 3 of " in lines
    np.testing.assert_allclose(weights, plain, atol=2e-2)


def test_an_overflow_in_a_factor_skips_the_step_on_all(make_strategy, float64):
    strategy = make_strategy(2)
    with strategy.scope():
        model = jobs.make_loss_scaling_mlp()
    source = jobs.overflowing_source()
    tfdist.fit(model, source, epochs=2, verbose=0, exchange="factors")
    plain, _ = jobs.train_plainly(source, make_model=jobs.make_loss_scaling_mlp)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)
    assert float(model.optimizer.dynamic_scale.numpy()) == float(plain.optimizer.dynamic_scale.numpy())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"make_optimizer": functools.partial(keras.optimizers.SGD, gradient_accumulation_steps=2)},
            "the optimizer accumulates gradients",
        ),
        ({"run_eagerly": True}, "the model runs eagerly"),
    ],
)
def test_the_reason_why_factors_are_not_used_is_logged(make_strategy, float64, options, reason):
    _, lines = train(make_strategy(2), "everything", **options)
    assert lines == f"exchange=factors has no effect because {reason}: every gradient is all-reduced."


@pytest.mark.parametrize(("compression", "digits"), [("bfloat16", 2e-2), ("float16", 2e-3)])
def test_rounding_stays_within_the_digits_of_its_type(make_strategy, float64, compression, digits):
    exact = train_plainly("everything")
    start = jobs.weights_of(make_model("everything"))
    for wish in ("all_reduce", "factors"):
        weights, _ = train(make_strategy(2), "everything", exchange=wish, compression=compression)
        difference = np.abs(weights - exact).max()
        # 8 or 11 bits of each gradient: seen, but small beside what was learned.
        assert 1e-7 < difference < digits * np.abs(exact - start).max()


def test_one_replica_alone_rounds_nothing(make_strategy, float64):
    weights, _ = train(make_strategy(1), "everything", compression="bfloat16")
    np.testing.assert_allclose(weights, train_plainly("everything"), rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [1e-30, 1e-9, 1.0, 1e30])
def test_float16_is_scaled_to_gradients_of_any_size(make_strategy, size):
    strategy = make_strategy(2)
    own = np.float32(size) * np.array([[1.0, -0.37, 2.0**-8], [0.61, 0.25, 0.0]], "float32")

    def replica_sums():
        mine = tf.gather(own, tf.distribute.get_replica_context().replica_id_in_sync_group)
        where = tf.IndexedSlices(mine[:, tf.newaxis], tf.range(3), tf.constant([3, 1]))
        dense, sparse, zeros, inf = tfdist.reduce_gradients([mine, where, 0 * mine, mine / 0], wire=tf.float16)
        return dense, tf.convert_to_tensor(sparse)[:, 0], zeros, inf

    results = strategy.experimental_local_results(tf.function(lambda: strategy.run(replica_sums))())
    for dense, sparse, zeros, inf in results:
        np.testing.assert_allclose(dense, own.sum(0), rtol=2e-3)
        np.testing.assert_allclose(sparse, own.sum(0), rtol=2e-3)
        assert not np.any(zeros) and np.isinf(inf[0])


def test_digits_learn_as_well_with_rounded_gradients_on_the_wire(make_strategy):
    accuracy = {}
    for compression in ("none", "bfloat16", "float16"):
        keras.utils.set_random_seed(5)
        strategy = make_strategy(2)
        with strategy.scope():
            model = tfdist.models.build("mlp", input_shape=(8, 8, 1), classes=10)
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        train_source, test_source = (
            tfdist.data.load("digits", split=split, global_batch=64) for split in ("train", "test")
        )
        tfdist.fit(model, train_source, epochs=5, verbose=0, compression=compression)
        accuracy[compression] = tfdist.evaluate(model, test_source, verbose=0, return_dict=True)["accuracy"]
    assert accuracy["none"] > 0.9
    assert abs(accuracy["none"] - accuracy["bfloat16"]) < 0.01
    assert abs(accuracy["none"] - accuracy["float16"]) < 0.01


@pytest.mark.parametrize(("name", "value"), [("exchange", "sometimes"), ("compression", "float8")])
def test_an_unknown_option_is_refused(make_strategy, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}. Use one of"):
        train(make_strategy(2), "everything", **{name: value})


# 100 rows a replica, 10 tokens each, a weight of (1000, 500) in float32; 3 replicas.
USE = Use(rows=1000, inputs=1000, outputs=500, dtype=tf.float32, itemsize=4)
COSTS = cost.Costs(reduce=1e6, gather=2e6, latency=0.5, multiply=1e9)


def test_the_cost_of_factors_is_what_a_hand_computes():
    # The rows of two others: 2 · 100 · 10; each receives 1500 numbers of 4 bytes a row at 2 MB/s.
    assert cost.factor_bytes([USE], 3) == 2000 * 1500 * 4
    seconds = 2 * 0.5 + 2000 * 1500 * 4 / 2e6 + 2 * 2000 * 1000 * 500 / 1e9
    assert cost.factor_seconds([USE], 3, COSTS) == pytest.approx(seconds)
    assert cost.factor_seconds([USE, USE], 3, COSTS) == pytest.approx(2 * seconds)
    assert cost.reduce_bytes(2e6, 3) == pytest.approx(2 * 2 / 3 * 2e6)
    assert cost.reduce_seconds(2e6, 3, COSTS) == pytest.approx(2 * 2 / 3 * 2e6 / 1e6)


@pytest.mark.parametrize(
    ("equation", "rank", "understood"),
    [
        ("abc,cd->abd", 3, True),
        ("abc,cde->abde", 3, True),
        ("abcd,cde->abe", 4, True),
        ("abc,dc->abd", 3, False),
        ("abc,acd->abd", 3, False),
        ("abc,cd->adb", 3, False),
        ("...c,cd->...d", 3, False),
        ("aac,cd->aad", 3, False),
        ("abc,cd->abd", 2, False),
    ],
)
def test_an_equation_is_understood_where_it_is_a_product_of_matrices(equation, rank, understood):
    assert (products._form_of(equation, rank) is not None) == understood


@pytest.mark.parametrize(
    ("workers", "expected"), [(["a:1", "a:2"], 2**22), (["a:1", "b:1"], 2**20), ([], 2**22)], ids=["one", "two", "none"]
)
def test_rows_are_gathered_in_larger_packs_where_all_workers_are_of_one_host(workers, expected):
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(tf.train.ClusterSpec({"worker": workers}))
    assert collectives.bytes_per_gather(types.SimpleNamespace(cluster_resolver=resolver)) == expected
