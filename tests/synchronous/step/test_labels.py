"""Labels out of range are an error under XLA too, for each kind of data and of loss; others pass."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]
SPARSE = keras.losses.SparseCategoricalCrossentropy


def fit(strategy, x, y=None, loss="sparse_categorical_crossentropy"):
    with strategy.scope():
        model = keras.Sequential([keras.Input((jobs.WIDTH,)), keras.layers.Dense(jobs.CLASSES, "softmax")])
        model.compile("sgd", loss)
    given = {} if y is None else {"y": y, "batch_size": 8}
    return tfdist.fit(model, x, **given, verbose=0, jit_compile=True, steps_per_execution=2).history["loss"]


def rows(label, place=9):
    x, y = jobs.make_rows(20, "float32")
    y[place] = label
    return x, y


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("label", [-1, jobs.CLASSES])
def test_a_label_of_rows_in_memory_is_named(make_strategy, replicas, label):
    with pytest.raises(ValueError) as error:
        fit(make_strategy(replicas), *rows(label))
    assert str(error.value).startswith(
        f"y: the label of row 9 is {label}, but the model has {jobs.CLASSES} classes, 0 to {jobs.CLASSES - 1}."
    )


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_label_of_a_pipeline_is_named_outside_of_what_xla_compiles(make_strategy, replicas):
    data = tf.data.Dataset.from_tensor_slices(rows(7)).batch(8)
    with pytest.raises(ValueError, match=f"of a model with {jobs.CLASSES} classes, 0 to {jobs.CLASSES - 1}: 7. "):
        fit(make_strategy(replicas), data)


def test_a_loss_may_ignore_a_class(make_strategy):
    def loss():
        return SPARSE(ignore_class=-1)

    # The oracle is Keras on one device; Keras' mean is over all rows there.
    x, y = rows(-1)
    keras.utils.set_random_seed(1)
    mine = fit(make_strategy(1), x, y, loss())
    assert np.isfinite(mine).all()
    with pytest.raises(ValueError, match="the label of row 3 is 8"):
        fit(make_strategy(1), *rows(8, place=3), loss())


def test_each_output_has_its_own_number_of_classes(make_strategy):
    x, y = jobs.make_rows(20, "float32")
    wide = np.arange(20, dtype="int32") % 6

    def train(labels):
        with make_strategy(1).scope():
            inputs = keras.Input((jobs.WIDTH,))
            few = keras.layers.Dense(jobs.CLASSES, "softmax", name="few")(inputs)
            many = keras.layers.Dense(6, "softmax", name="many")(inputs)
            model = keras.Model(inputs, {"few": few, "many": many})
            model.compile("sgd", {"few": "sparse_categorical_crossentropy", "many": SPARSE()})
        tfdist.fit(model, x, labels, batch_size=8, verbose=0, jit_compile=True)

    train({"few": y, "many": wide})
    with pytest.raises(ValueError, match="is 3, but the model has 3 classes"):
        train({"few": wide, "many": wide})
