"""A user's own `train_step` gets the gradients of all rows; what cannot be exact is said."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist

X = np.random.RandomState(0).randn(13, 4).astype("float32")
Y = X.sum(1, keepdims=True)


class OneLayer(keras.Model):
    """A linear model whose `train_step` applies `self.apply_in(tape, loss)`."""

    def __init__(self, loss_of, apply):
        super().__init__()
        self.layer = keras.layers.Dense(1, kernel_initializer="ones")
        self.loss_of, self.apply_in = loss_of, apply

    def call(self, x):
        return self.layer(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            rows = tf.reduce_mean(tf.square(self(x) - 2 * y), axis=1)
            loss = self.loss_of(rows)
        self.apply_in(self, tape.gradient(loss, self.trainable_variables))
        return {"value": loss}


def apply_clipped(model, gradients):
    model.optimizer.apply(tf.clip_by_global_norm(gradients, 0.5)[0], model.trainable_variables)


def trained(strategy, loss_of, apply=apply_clipped, eager=False):
    """Returns (weights, value in the logs) after two steps."""
    with strategy.scope():
        model = OneLayer(loss_of, apply)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=eager)
        model(X[:1])
    history = tfdist.fit(model, X, Y, batch_size=13, epochs=2, shuffle=False, verbose=0)
    return np.ravel(model.get_weights()[0]), history.history["value"]


def test_the_logs_of_a_sum_are_the_sum_over_all_rows(make_strategy):
    weights, values = trained(make_strategy(3), tf.reduce_sum)
    expected_weights, expected_values = trained(make_strategy(1), tf.reduce_sum)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5)
    np.testing.assert_allclose(values, expected_values, rtol=1e-5)
    np.testing.assert_allclose(values[0], np.sum((X.sum(1) - 2 * Y[:, 0]) ** 2), rtol=1e-5)


def root(rows):
    return tf.sqrt(tf.reduce_mean(rows))


def test_a_loss_that_is_neither_mean_nor_sum_is_said_once(make_strategy, caplog):
    caplog.set_level(logging.INFO)
    trained(make_strategy(2), root)
    said = [record.message for record in caplog.records if "neither a mean nor a sum" in record.message]
    assert len(said) == 1
    assert "'Sqrt'" in said[0]
    assert "tfdist.global_loss" in said[0]


def test_a_mean_is_not_said_to_be_anything_else(make_strategy, caplog):
    caplog.set_level(logging.INFO)
    trained(make_strategy(2), tf.reduce_mean)
    assert "neither" not in caplog.text


def test_it_is_said_that_without_a_graph_each_scalar_is_a_mean(make_strategy, caplog):
    caplog.set_level(logging.INFO)
    weights, _ = trained(make_strategy(2), tf.reduce_mean, eager=True)
    np.testing.assert_allclose(weights, trained(make_strategy(1), tf.reduce_mean)[0], rtol=1e-5)
    assert caplog.text.count("run_eagerly=True: without a graph") == 1


def test_gradients_of_one_replica_cannot_be_applied_in_a_branch(make_strategy):
    def apply_in_a_branch(model, gradients):
        def apply():
            own = tf.reduce_mean(tf.ones([tf.shape(model.seen)[0]]))
            model.optimizer.apply([own * tf.ones_like(each) for each in gradients], model.trainable_variables)
            return 0

        tf.cond(tf.reduce_sum(model.seen) > -1e9, apply, lambda: 0)

    def keep(rows):
        keep.model.seen = rows
        return tf.reduce_mean(rows)

    class Keeps(OneLayer):
        def train_step(self, data):
            keep.model = self
            return super().train_step(data)

    with make_strategy(2).scope():
        model = Keeps(keep, apply_in_a_branch)
        model.compile(keras.optimizers.SGD(0.1))
        model(X[:1])
    with pytest.raises(ValueError, match=r"optimizer\.apply in a branch"):
        tfdist.fit(model, X, Y, batch_size=13, verbose=0)


@pytest.mark.parametrize("how", ["keras", "tfdist"])
@pytest.mark.parametrize("eager", [False, True])
def test_what_was_reduced_by_hand_is_not_summed_again(make_strategy, how, eager):
    def run(strategy):
        with strategy.scope():
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")])
            optimizer = keras.optimizers.SGD(0.1)
            optimizer.build(model.trainable_variables)

        def step(x, y):
            with tf.GradientTape() as tape:
                loss = tfdist.global_mean(tf.reduce_mean(tf.square(model(x) - 2 * y), axis=1))
            gradients = tfdist.reduce_gradients(tape.gradient(loss, model.trainable_variables))
            gradients, _ = tf.clip_by_global_norm(gradients, 0.5)
            if how == "keras":
                optimizer.apply(gradients, model.trainable_variables)
            else:
                tfdist.apply_gradients(optimizer, gradients, model.trainable_variables)

        data = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices((X[:12], Y[:12])).batch(6))
        for x, y in data:
            strategy.run(step if eager else tf.function(step), args=(x, y))
        return np.ravel(model.get_weights()[0])

    np.testing.assert_allclose(run(make_strategy(3)), run(make_strategy(1)), rtol=1e-5)


def test_gradients_that_happen_to_be_equal_on_all_replicas_are_summed(make_strategy):
    def step():
        context = tf.distribute.get_replica_context()
        tfdist.apply_gradients(optimizer, [tf.constant(0.5)], [weight])
        return context.replica_id_in_sync_group

    strategy = make_strategy(2)
    strategy.run(lambda: tfdist.reduce_gradients([tf.constant(1.0)]))
    with strategy.scope():
        weight = keras.Variable(0.0)
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build([weight])
    strategy.run(step)
    assert float(weight.numpy()) == -1.0


def test_a_train_step_that_reduces_by_hand_gets_the_sums_as_they_are(make_strategy):
    def apply_reduced(model, gradients):
        apply_clipped(model, tfdist.reduce_gradients(gradients))

    weights, _ = trained(make_strategy(2), tf.reduce_mean, apply_reduced)
    np.testing.assert_allclose(weights, trained(make_strategy(1), tf.reduce_mean, apply_reduced)[0], rtol=1e-5)


def test_gradients_without_a_tape_are_clipped_exactly_behind_the_reduction(make_strategy, caplog):
    class ByHand(OneLayer):
        def train_step(self, data):
            x, y = data
            error = self(x) - 2 * y
            rows = tf.cast(tf.shape(x)[0], x.dtype)
            gradients = [2 * tf.matmul(x, error, transpose_a=True) / rows, 2 * tf.reduce_sum(error, axis=0) / rows]
            self.apply_in(self, gradients)
            return {"value": tf.reduce_mean(error**2)}

    def run(strategy, apply):
        with strategy.scope():
            model = ByHand(None, apply)
            model.compile(keras.optimizers.SGD(0.1))
            model(X[:1])
        tfdist.fit(model, X, Y, batch_size=13, epochs=2, shuffle=False, verbose=0)
        return np.ravel(model.get_weights()[0])

    def clip_behind_the_reduction(model, gradients):
        apply_clipped(model, tfdist.reduce_gradients(gradients))

    caplog.set_level(logging.INFO)
    expected = run(make_strategy(1), apply_clipped)
    np.testing.assert_allclose(run(make_strategy(3), clip_behind_the_reduction), expected, rtol=1e-5)
    assert "computed from this replica's rows" not in caplog.text
    run(make_strategy(2), apply_clipped)
    assert caplog.text.count("only behind tfdist.reduce_gradients") == 1
