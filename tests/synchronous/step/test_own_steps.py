"""A user's own `train_step` gets the gradients of all rows; what cannot be exact is said."""

import logging
import re

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


class Sees(OneLayer):
    """Keeps the mean of this replica's rows."""

    def train_step(self, data):
        self.seen = tf.reduce_mean(data[0])
        return super().train_step(data)


def apply_clipped(model, gradients):
    model.optimizer.apply(tf.clip_by_global_norm(gradients, 0.5)[0], model.trainable_variables)


def compiled_on(strategy, make, **options):
    """Returns a model that `make` makes, compiled and built in the scope of a strategy."""
    with strategy.scope():
        model = make()
        model.compile(keras.optimizers.SGD(0.1), **options)
        model(X[:1])
    return model


def trained(strategy, loss_of, apply=apply_clipped, eager=False):
    """Returns (weights, value in the logs) after two steps."""
    model = compiled_on(strategy, lambda: OneLayer(loss_of, apply), run_eagerly=eager)
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

        tf.cond(model.optimizer.iterations >= 0, apply, lambda: 0)

    def keep(rows):
        keep.model.seen = rows
        return tf.reduce_mean(rows)

    class Keeps(OneLayer):
        def train_step(self, data):
            keep.model = self
            return super().train_step(data)

    model = compiled_on(make_strategy(2), lambda: Keeps(keep, apply_in_a_branch))
    with pytest.raises(ValueError, match=r"optimizer\.apply in a branch"):
        tfdist.fit(model, X, Y, batch_size=13, verbose=0)


def test_a_learning_rate_of_a_replicas_rows_cannot_be_assigned_in_a_branch(make_strategy):
    def set_in_a_branch(model, gradients):
        rate = model.optimizer.learning_rate
        tf.cond(tf.constant(True), lambda: rate.assign(0.1 * model.seen), lambda: tf.convert_to_tensor(rate))

    model = compiled_on(make_strategy(2), lambda: Sees(tf.reduce_mean, set_in_a_branch))
    with pytest.raises(ValueError, match=r"assigns to .*learning_rate' in a branch.*tfdist\.global_mean"):
        tfdist.fit(model, X, Y, batch_size=13, verbose=0)


def test_metrics_that_are_given_scalars_and_weights_are_those_of_all_rows(make_strategy):
    class Measures(OneLayer):
        def __init__(self):
            super().__init__(tf.reduce_mean, apply_clipped)
            self.sums = [keras.metrics.Sum(name=name) for name in ("of_mean", "of_sum", "of_rows", "of_number")]
            self.means = [
                keras.metrics.Mean(name=name) for name in ("by_rows", "sum_by_rows", "by_number", "in_a_list")
            ]

        def train_step(self, data):
            super().train_step(data)
            rows = tf.reduce_mean(tf.square(data[0]), axis=1)
            mean, total, count = tf.reduce_mean(rows), tf.reduce_sum(rows), tf.shape(rows)[0]
            for metric, value in zip(self.sums, (mean, total, rows, 2.0), strict=True):
                metric.update_state(value)
            weighted = (mean, count), (total, count), (total, 2.0), ([mean], None)
            for metric, (value, weight) in zip(self.means, weighted, strict=True):
                metric.update_state(value, sample_weight=weight)
            return {metric.name: metric.result() for metric in (*self.sums, *self.means)}

    def measured(replicas):
        model = compiled_on(make_strategy(replicas), Measures)
        history = tfdist.fit(model, X, Y, batch_size=8, shuffle=False, verbose=0).history
        return [history[metric.name][0] for metric in (*model.sums, *model.means)]

    rows = np.mean(X**2, axis=1)
    batches = rows[:8], rows[8:]
    means, sums = [each.mean() for each in batches], [each.sum() for each in batches]
    expected = [sum(means), sum(sums), rows.sum(), 4.0, rows.mean(), np.dot(sums, [8, 5]) / 13, np.mean(sums)]
    np.testing.assert_allclose(measured(3), [*expected, np.mean(means)], rtol=1e-5)


def test_a_branch_that_replicas_would_choose_differently_is_refused_by_name(make_strategy):
    def apply_in_a_branch(model, gradients):
        def apply():
            model.optimizer.apply(gradients, model.trainable_variables)
            return 0

        tf.cond(tf.greater(model.seen, 0.5, name="is_large"), apply, lambda: 0)

    model = compiled_on(make_strategy(2), lambda: Sees(tf.reduce_mean, apply_in_a_branch))
    with pytest.raises(ValueError, match=r"optimizer\.apply in a branch that 'is_large' .*tfdist\.global_mean"):
        tfdist.fit(model, X, Y, batch_size=13, verbose=0)


def squares(model, x, y):
    return tf.reduce_sum(tf.square(model(x) - 2 * y), axis=1)


@tf.custom_gradient
def with_centered_gradient(rows):
    return tf.identity(rows), lambda upstream: upstream * (rows - tf.reduce_mean(rows, name="backward"))


# How a loss combines rows → a word of the line about it.
COMBINING = {
    "Roll": lambda model, x, y: tf.reduce_mean(squares(model, 0.7 * x + 0.3 * tf.roll(x, 1, 0), y)),
    "ReverseV2": lambda model, x, y: tf.reduce_mean(squares(model, x, tf.reverse(y, [0]))),
    "GatherV2": lambda model, x, y: tf.reduce_mean(
        squares(model, tf.gather(x, tf.random.shuffle(tf.range(tf.shape(x)[0]))), y)
    ),
    "weights": lambda model, x, y: tf.reduce_sum(
        squares(model, x, y) * x[:, 0] / tf.reduce_sum(x[:, 0], name="weights")
    ),
    "center": lambda model, x, y: tf.reduce_mean(squares(model, x - tf.reduce_mean(x, 0, name="center"), y)),
    "similarity": lambda model, x, y: tf.reduce_mean(
        tf.matmul(model(x), x[:, :1], transpose_b=True, name="similarity")
    ),
    "Cumsum": lambda model, x, y: tf.reduce_mean(tf.cumsum(model(x), axis=0)),
    "TopKV2": lambda model, x, y: tf.reduce_mean(tf.sort(squares(model, x, y))[:2]),
    "values": lambda model, x, y: squares(model, x, y) / tf.reduce_max(x, name="values"),
    "Where": lambda model, x, y: tf.reduce_mean(tf.boolean_mask(squares(model, x, y), y[:, 0] > 0)),
    "backward": lambda model, x, y: tf.reduce_mean(with_centered_gradient(squares(model, x, y))),
    "Sqrt": lambda model, x, y: tf.sqrt(tf.reduce_mean(squares(model, x, y))),
}


def test_each_operation_that_combines_rows_is_named_once_with_the_line_of_the_user(make_strategy, caplog):
    class Combines(OneLayer):
        def train_step(self, data):
            for loss_of in COMBINING.values():
                with tf.GradientTape() as tape:
                    loss = loss_of(self, *data)
                gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"value": loss, "spread": tf.math.reduce_std(data[0])}

    caplog.set_level(logging.INFO)
    model = compiled_on(make_strategy(2), lambda: Combines(None, None))
    tfdist.fit(model, X, Y, batch_size=13, epochs=2, shuffle=False, verbose=0)
    said = [record.message for record in caplog.records if "tfdist.global_loss" in record.message]
    for name in COMBINING:
        (line,) = [each for each in said if re.search(rf"[/']{name}'", each) and "returns 'reduce_std" not in each]
        assert line.startswith("tf.custom_gradient returns" if name == "backward" else "train_step differentiates")
        assert "tfdist.global_loss" in line
        assert "(test_own_steps.py, line " in line
    assert [each for each in said if each.startswith("train_step returns")]
    assert len(said) == len(COMBINING) + 1


def test_a_learning_rate_that_is_no_mean_of_rows_is_said(make_strategy, caplog):
    def set_rate(model, gradients):
        model.optimizer.learning_rate.assign(0.1 * tf.sqrt(model.mean))
        apply_clipped(model, gradients)

    class Keeps(OneLayer):
        def train_step(self, data):
            self.mean = tf.reduce_mean(data[0] ** 2)
            return super().train_step(data)

    caplog.set_level(logging.INFO)
    model = compiled_on(make_strategy(2), lambda: Keeps(tf.reduce_mean, set_rate))
    tfdist.fit(model, X, Y, batch_size=13, verbose=0)
    (line,) = [each.message for each in caplog.records if "train_step assigns" in each.message]
    assert re.match(r"train_step assigns to 'sgd.*/learning_rate' the value 'Sqrt' \(test_own_steps\.py", line)
    assert "neither a mean nor a sum" in line


def test_what_own_steps_of_evaluation_and_prediction_return_is_looked_at_too(make_strategy, caplog):
    class Looks(OneLayer):
        def __init__(self, right):
            super().__init__(None, None)
            self.right = right
            self.spread = keras.metrics.Mean(name="spread")
            self.norm = keras.layers.BatchNormalization()
            self.norm.build((None, 1))

        def test_step(self, data):
            x, y = data
            rows = squares(self, x, y)
            self.spread.update_state(tf.reduce_mean(rows) if self.right else tf.math.reduce_std(rows))
            rolled = tf.reduce_mean(rows if self.right else tf.roll(rows, 1, 0) * rows)
            return {"rolled": rolled, "spread": self.spread.result()}

        def predict_step(self, data):
            outputs = self.norm(self(data[0] if isinstance(data, tuple) else data), training=False)
            return outputs if self.right else outputs - tf.reduce_mean(outputs, axis=0)

    def said_of(right):
        caplog.clear()
        model = compiled_on(make_strategy(2), lambda: Looks(right))
        results = tfdist.evaluate(model, X, Y, batch_size=13, verbose=0, return_dict=True)
        expected = np.mean((X.sum(1) - 2 * Y[:, 0]) ** 2)
        np.testing.assert_allclose(results["spread"], expected, rtol=1e-5) if right else None
        tfdist.predict(model, X, batch_size=13, verbose=0)
        return [record.message for record in caplog.records if "own rows" in record.message]

    caplog.set_level(logging.INFO)
    assert said_of(right=True) == []
    spread, rolled, outputs = said_of(right=False)
    assert spread.startswith("metric 'spread' is given")
    assert rolled.startswith("test_step returns 'Mean")
    assert "'Roll' (test_own_steps.py, line " in rolled
    assert outputs.startswith("predict_step returns 'sub")


@pytest.mark.parametrize("eager", [False, True])
def test_a_compute_loss_that_combines_rows_is_named(make_strategy, caplog, eager):
    class OwnLoss(OneLayer):
        train_step = keras.Model.train_step

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return tf.reduce_mean(tf.square(y_pred - 2 * tf.roll(y, 1, 0)))

    caplog.set_level(logging.INFO)
    model = compiled_on(make_strategy(2), lambda: OwnLoss(None, None), run_eagerly=eager)
    tfdist.fit(model, X, Y, batch_size=13, verbose=0)
    (line,) = [record.message for record in caplog.records if " rows" in record.message]
    assert line.startswith("run_eagerly=True: without a graph" if eager else "compute_loss returns 'Mean'")
    assert "'Roll' (test_own_steps.py, line " in line or eager


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
        model = compiled_on(strategy, lambda: ByHand(None, apply))
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
