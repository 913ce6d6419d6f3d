"""What tfdist builds without tracing is what Keras builds by tracing; other models are built by Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.internals.access import models

pytestmark = pytest.mark.core


def functional():
    left, right = keras.Input((4,), name="right"), keras.Input((3,), name="left")
    both = keras.layers.Concatenate()([left, right])
    outputs = {"b": keras.layers.Dense(2, name="b")(both), "a": keras.layers.Dense(1, name="a")(both)}
    return keras.Model([left, right], outputs)


def named():
    x, z = keras.Input((4,), name="x"), keras.Input((3,), name="a")
    return keras.Model({"x": x, "a": z}, keras.layers.Dense(2)(keras.layers.Concatenate()([x, z])))


def sequential():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Softmax()])


def unbuilt():
    return keras.Sequential([keras.layers.Dense(3), keras.layers.Softmax()])


def spec(*shape):
    return tf.TensorSpec([None, *shape], tf.float32)


CASES = {
    "two inputs, two outputs": (
        *(functional, ((spec(4), spec(3)), {"a": spec(1), "b": spec(2)})),
        {"loss": {"a": "mse", "b": "mae"}, "metrics": {"a": ["mae"], "b": ["mse"]}},
    ),
    "inputs by name": (named, ({"x": spec(4), "a": spec(3)}, spec(2)), {"loss": "mse", "metrics": ["mae"]}),
    "layers in a row": (
        *(sequential, (spec(4), tf.TensorSpec([None], tf.int32))),
        {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy", keras.metrics.AUC]},
    ),
    "without an Input": (
        *(unbuilt, (spec(4), tf.TensorSpec([None], tf.int32))),
        {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]},
    ),
    "a loss by its targets": (sequential, (spec(4), spec(3)), {"loss": "crossentropy", "metrics": ["accuracy"]}),
}


def described(model):
    return (
        [(variable.path.rpartition("/")[2], tuple(variable.shape)) for variable in model.variables],
        [(metric.name, [tuple(variable.shape) for variable in metric.variables]) for metric in model.metrics],
        [variable.shape for variable in model.optimizer.variables],
        [type(loss[1]).__name__ for loss in model._compile_loss._flat_losses],
    )


@pytest.mark.parametrize("name", CASES)
def test_a_model_is_built_as_keras_builds_it(name):
    make, batch, options = CASES[name]
    ours, theirs = make(), make()
    for model, build in ((ours, models.build), (theirs, lambda model, batch: model._symbolic_build(data_batch=batch))):
        metrics = options["metrics"]
        if isinstance(metrics, list):
            metrics = [metric() if isinstance(metric, type) else metric for metric in metrics]
        model.compile("adam", **{**options, "metrics": metrics})
        build(model, batch)
    assert described(ours) == described(theirs)


def test_inputs_of_another_shape_are_traced():
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    models.build(model, (spec(5, 4), spec(2)))
    assert model.optimizer.built


def test_a_compute_loss_of_ones_own_is_traced():
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            self.was_asked = True
            return tf.reduce_mean(y_pred)

    x = keras.Input((4,))
    model = Own(x, keras.layers.Dense(2)(x))
    model.compile("sgd", "mse")
    models.build(model, (spec(4), spec(2)))
    assert model.was_asked


def test_targets_of_another_structure_are_refused_as_in_keras():
    model = functional()
    model.compile("sgd", loss={"a": "mse", "b": "mae"})
    batch = ((spec(4), spec(3)), {"a": spec(1)})
    with pytest.raises(Exception) as theirs:
        model._symbolic_build(data_batch=batch)
    model = functional()
    model.compile("sgd", loss={"a": "mse", "b": "mae"})
    with pytest.raises(type(theirs.value)):
        models.build(model, batch)
    assert np.all(np.isfinite(model.get_weights()[0]))
