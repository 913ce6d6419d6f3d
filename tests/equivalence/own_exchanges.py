"""Rows of the table: a `train_step` that sets the learning rate from its rows, or uses rows side by side."""

import functools

import keras
import tensorflow as tf
from equivalence.own_steps import CLASSES, clipped, of_each_row, own_step_model, with_loss

import tfdist


def add_own_exchanges(add):
    """Adds the rows.

    Args:
        add: as in `cases.make_cases`.
    """
    for name, step in STEPS.items():
        add("own step", name, functools.partial(own_step_model, step), workers=name in _ON_WORKERS)


def learning_rate_from(value_of):
    """Returns a step that sets the learning rate from `value_of(each row's loss)`."""

    def step(self, x, y):
        with tf.GradientTape() as tape:
            rows = of_each_row(y, self(x, training=True))
            loss = tf.reduce_mean(rows)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.learning_rate.assign(0.1 + 0.2 * value_of(rows))
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"a loss": loss, "a rate": self.optimizer.learning_rate}

    return step


def adversarial(self, x, y):
    """Two players: the first layers make rows, the last ones tell them from the given ones, both side by side."""
    generator, critic = self.trainable_variables[:2], self.trainable_variables[2:]

    def outputs_for(x):
        made = tf.tanh(x @ generator[0] + generator[1])
        real = tf.tanh(tf.concat([x, x[:, :1]], axis=1))
        both = tf.concat([made, real], axis=0)
        labels = tf.concat([tf.ones([tf.shape(x)[0]], x.dtype), tf.zeros([tf.shape(x)[0]], x.dtype)], axis=0)
        return (both @ critic[0] + critic[1])[:, 0], 0.9 * labels + 0.05

    with tf.GradientTape() as tape:
        logits, labels = outputs_for(x)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
    gradients = clipped(tape.gradient(loss, critic))
    with tf.GradientTape() as tape:
        logits, _ = outputs_for(x)
        made, _ = tf.split(logits, 2)
        other = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.zeros_like(made), made))
    gradients = clipped(tape.gradient(other, generator)) + gradients
    self.optimizer.apply(gradients, self.trainable_variables)
    return {"a loss": loss, "another loss": other}


def over_all_rows(self, y, outputs):
    """What couples rows, exactly: weights that add up to one, a masked mean, scores against all rows."""
    rows, weights = of_each_row(y, outputs), tf.cast(y + 1, outputs.dtype)
    mask = tf.cast(outputs[:, 0] > 0.3, outputs.dtype)
    weighted = tf.reduce_sum(rows * weights) / tfdist.global_sum(tf.reduce_sum(weights))
    masked = tf.reduce_sum(rows * mask) / (1 + tfdist.global_sum(tf.reduce_sum(mask)))
    count = tfdist.global_sum(tf.reduce_sum(tf.ones_like(weights)))
    centered = outputs - tfdist.global_sum(tf.reduce_sum(outputs, axis=0)) / count
    scores = tf.nn.log_softmax(tf.matmul(centered, tfdist.gather_rows(centered), transpose_b=True))
    return weighted + masked - 0.1 * tf.reduce_mean(scores[:, 0]) + tf.reduce_mean(tf.square(centered))


def distilled(self, y, outputs):
    """Follows another model's smoothed outputs, and its own, with each row's loss clipped."""
    teacher = tf.stop_gradient(tf.nn.softmax(tf.reverse(tf.math.log(outputs), [1]) / 2))
    labels = 0.9 * tf.one_hot(y, CLASSES, dtype=outputs.dtype) + 0.1 / CLASSES
    rows = tf.reduce_sum(
        -labels * tf.math.log(outputs) + 0.3 * keras.losses.kl_divergence(teacher, outputs)[:, None], 1
    )
    kept = tf.clip_by_norm(outputs, 0.7, axes=[1])
    return tf.reduce_mean(tf.minimum(rows, 3.0)) + 0.2 * tf.reduce_mean(tf.norm(kept, axis=1))


STEPS = {
    "learning rate from a mean of rows": learning_rate_from(tf.reduce_mean),
    "learning rate from a sum of rows": learning_rate_from(lambda rows: 0.1 * tf.reduce_sum(rows)),
    "learning rate from a scaled mean": learning_rate_from(lambda rows: 0.5 - tf.reduce_mean(rows) / 4),
    "two players": adversarial,
    "sums and rows of all replicas": with_loss(over_all_rows),
    "distillation, smoothed labels": with_loss(distilled),
}
_ON_WORKERS = {"learning rate from a mean of rows", "sums and rows of all replicas"}
