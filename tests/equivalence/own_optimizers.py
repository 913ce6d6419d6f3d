"""Rows of the table: a `train_step` whose own optimizers are not built before the first step."""

import functools

import keras
import tensorflow as tf


class TwoParts(keras.Model):
    """Trains a body and a head in turns, as a GAN does, each with an optimizer that nothing has built.

    Args:
        width: the number of features.
        classes: the number of classes.
        optimizers: functions () → optimizer: the one of the body and the one of the head.
        shared: whether one optimizer, the first one, is given all variables.
    """

    def __init__(self, width, classes, optimizers, shared=False):
        super().__init__()
        self.body = keras.Sequential([keras.Input((width,)), keras.layers.Dense(6, "tanh")])
        self.head = keras.Sequential([keras.Input((6,)), keras.layers.Dense(classes, "softmax")])
        self.own = [make() for make in optimizers]
        self.shared = shared

    def call(self, x, training=None):
        return self.head(self.body(x))

    def train_step(self, data):
        x, y = data
        parts = [self.trainable_variables] if self.shared else [part.trainable_variables for part in self._parts]
        losses = []
        for optimizer, variables in zip(self.own, parts, strict=True):
            with tf.GradientTape() as tape:
                loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, self(x, training=True)))
                scaled = optimizer.scale_loss(loss)
            optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
            losses.append(loss)
        return {"loss": losses[0]}

    @property
    def _parts(self):
        return self.body, self.head


def two_parts(optimizers, *, shared=False, width=4, classes=3):
    """Builds and compiles the model; the optimizers stay as they are made."""
    keras.utils.set_random_seed(11)
    model = TwoParts(width, classes, optimizers, shared)
    model.compile()
    return model


def add_own_optimizers(add):
    """Adds the rows; `add` is a function (family, name, build, **more)."""
    optimizers = keras.optimizers
    sgd = functools.partial(optimizers.SGD, 0.3, momentum=0.9)
    # Not Adam's default: its first steps do not depend on the size of a gradient.
    adam = functools.partial(optimizers.Adam, 0.05, epsilon=0.1)
    scaling = lambda: optimizers.LossScaleOptimizer(sgd(), initial_scale=8.0)  # noqa: E731
    for name, made in {
        "two optimizers not built": (sgd, adam),
        "two optimizers not built, one clips": (functools.partial(sgd, clipvalue=0.02), adam),
        "two optimizers not built, one scales its loss": (scaling, adam),
        "two optimizers not built, one averages": (functools.partial(sgd, use_ema=True, ema_momentum=0.5), sgd),
    }.items():
        add("own step", name, functools.partial(two_parts, made), workers=name.endswith(("built", "loss")))
    for name, made in {"an optimizer not built": sgd, "an optimizer not built accumulates": _accumulating}.items():
        add("own step", name, functools.partial(two_parts, (made,), shared=True), workers=name.endswith("built"))


def _accumulating():
    return keras.optimizers.SGD(0.3, momentum=0.9, gradient_accumulation_steps=2)
