"""Every kind of data and every argument of `fit`: name → (function that makes a model, function that gives arguments).

Made anew for each run, since generators are used up.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from support import jobs

X, Y = jobs.make_rows(23)
WEIGHTS = np.linspace(0.2, 2.0, len(X))
VALID = jobs.make_rows(9)


def make_two_by_two():
    """Returns a model of two named inputs and two named outputs."""
    keras.utils.set_random_seed(7)
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    both = layers.Concatenate()([layers.Dense(3, activation="tanh")(a), layers.Dense(2)(b)])
    model = keras.Model({"a": a, "b": b}, {"p": layers.Dense(3, name="p")(both), "q": layers.Dense(1, name="q")(both)})
    model.compile(
        keras.optimizers.SGD(0.2),
        loss={"p": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "q": "mse"},
        loss_weights={"p": 1.0, "q": 0.5},
        metrics={"p": ["accuracy"], "q": ["mae"]},
        weighted_metrics={"q": ["mse"]},
    )
    return model


def make_list_model():
    """Returns a model that takes a list and gives a list."""
    keras.utils.set_random_seed(7)
    inputs = [keras.Input((4,)), keras.Input((2,))]
    q = layers.Dense(1, name="q")(layers.Concatenate()(inputs))
    model = keras.Model(inputs, [layers.Dense(3, activation="softmax", name="p")(inputs[0]), q])
    model.compile(keras.optimizers.SGD(0.2), loss=["sparse_categorical_crossentropy", "mse"])
    return model


class Net(keras.Model):
    """A subclassed model that is not built before it sees data."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, activation="softmax")

    def call(self, x):
        return self.dense(x)


def make_unbuilt():
    keras.utils.set_random_seed(7)
    model = Net()
    model.compile(keras.optimizers.SGD(0.2), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def make_words():
    """Returns a model of strings."""
    keras.utils.set_random_seed(7)
    words = layers.StringLookup(vocabulary=["red", "green", "blue"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), words, layers.Embedding(4, 2), layers.Flatten()])
    model.add(layers.Dense(3, activation="softmax"))
    model.compile(keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy")
    return model


class RaggedSum(layers.Layer):
    def call(self, x):
        return tf.reduce_sum(x, axis=1)


def make_ragged():
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((None, 2), ragged=True), RaggedSum(), layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
    return model


class Batches(keras.utils.PyDataset):
    """The rows in batches of five."""

    def __init__(self, infinite=False, **arguments):
        super().__init__(**arguments)
        self.infinite = infinite
        self.told = []

    @property
    def num_batches(self):
        return None if self.infinite else 5

    def __getitem__(self, index):
        rows = slice(5 * (index % 5), 5 * (index % 5) + 5)
        return X[rows], Y[rows]

    def on_epoch_begin(self):
        self.told.append("begin")

    def on_epoch_end(self):
        self.told.append("end")


def generate(endless=False):
    while True:
        for index in range(5):
            yield Batches()[index]
        if not endless:
            return


def dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays or (X, Y)).batch(5)


def unknown():
    """A `tf.data.Dataset` of which nobody knows the length."""
    return dataset().filter(lambda *_: True)


def two_by_two(kind=dict):
    x = {"a": X, "b": X[:, :2]}
    y = {"p": Y, "q": X[:, :1]}
    return (x, y) if kind is dict else (list(x.values()), list(y.values()))


def ragged():
    lengths = np.arange(len(X)) % 3 + 1
    values = np.random.RandomState(1).randn(lengths.sum(), 2)
    return tf.RaggedTensor.from_row_lengths(values, lengths), Y


def sparse():
    return tf.sparse.from_dense(np.where(X > -1, X, 0.0)), Y


def words():
    return np.array(["red", "green", "blue", "grey"])[np.arange(len(X)) % 4][:, None], Y


mlp = jobs.make_mlp
CASES = {
    "arrays": (mlp, lambda: {"x": X, "y": Y}),
    "float32 arrays": (mlp, lambda: {"x": X.astype("float32"), "y": Y}),
    "float16 arrays": (mlp, lambda: {"x": X.astype("float16"), "y": Y}),
    "integers": (mlp, lambda: {"x": (10 * X).astype("int64"), "y": Y}),
    "tf tensors": (mlp, lambda: {"x": tf.constant(X, tf.float32), "y": tf.constant(Y)}),
    "dicts": (make_two_by_two, lambda: dict(zip("xy", two_by_two(), strict=True))),
    "lists": (make_list_model, lambda: dict(zip("xy", two_by_two(list), strict=True))),
    "dicts with weights": (
        make_two_by_two,
        lambda: dict(zip("xy", two_by_two(), strict=True)) | {"sample_weight": {"p": WEIGHTS, "q": WEIGHTS[::-1]}},
    ),
    "one weight for two outputs": (
        make_two_by_two,
        lambda: dict(zip("xy", two_by_two(), strict=True)) | {"sample_weight": WEIGHTS},
    ),
    "dicts in tf.data": (make_two_by_two, lambda: {"x": dataset(*two_by_two())}),
    "unbuilt": (make_unbuilt, lambda: {"x": X, "y": Y}),
    "strings": (make_words, lambda: dict(zip("xy", words(), strict=True))),
    "objects": (make_words, lambda: {"x": words()[0].astype(object), "y": Y}),
    "strings in tf.data": (make_words, lambda: {"x": dataset(*words())}),
    "ragged": (make_ragged, lambda: dict(zip("xy", ragged(), strict=True))),
    "ragged in tf.data": (make_ragged, lambda: {"x": dataset(*ragged())}),
    "sparse": (mlp, lambda: dict(zip("xy", sparse(), strict=True))),
    "sparse in tf.data": (mlp, lambda: {"x": dataset(*sparse())}),
    "tf.data": (mlp, lambda: {"x": dataset()}),
    "tf.data of unknown length": (mlp, lambda: {"x": unknown()}),
    "endless tf.data": (mlp, lambda: {"x": dataset().repeat(), "steps_per_epoch": 4}),
    "tf.data with weights": (mlp, lambda: {"x": dataset(X, Y, WEIGHTS)}),
    "PyDataset": (mlp, lambda: {"x": Batches()}),
    "PyDataset with threads": (mlp, lambda: {"x": Batches(workers=2)}),
    "endless PyDataset": (mlp, lambda: {"x": Batches(infinite=True), "steps_per_epoch": 4}),
    "endless PyDataset with threads": (mlp, lambda: {"x": Batches(infinite=True, workers=2), "steps_per_epoch": 4}),
    "generator": (mlp, lambda: {"x": generate(), "epochs": 1}),
    "generator that ends in the second epoch": (mlp, lambda: {"x": generate(), "steps_per_epoch": 3}),
    "endless generator": (mlp, lambda: {"x": generate(endless=True), "steps_per_epoch": 4}),
    "fewer steps than batches": (mlp, lambda: {"x": X, "y": Y, "steps_per_epoch": 3, "epochs": 5}),
    "fewer steps than batches of tf.data": (mlp, lambda: {"x": dataset(), "steps_per_epoch": 3, "epochs": 5}),
    "fewer steps than batches, unknown": (mlp, lambda: {"x": unknown(), "steps_per_epoch": 3, "epochs": 5}),
    "fewer steps than batches of a PyDataset": (mlp, lambda: {"x": Batches(), "steps_per_epoch": 3, "epochs": 5}),
    "more steps than batches": (mlp, lambda: {"x": X, "y": Y, "steps_per_epoch": 7}),
    "more steps than batches of tf.data": (mlp, lambda: {"x": dataset(), "steps_per_epoch": 7}),
    "more steps than batches, unknown": (mlp, lambda: {"x": unknown(), "steps_per_epoch": 7}),
    "steps without a batch size": (mlp, lambda: {"x": X, "y": Y, "steps_per_epoch": 4, "batch_size": None}),
    "sample weights": (mlp, lambda: {"x": X, "y": Y, "sample_weight": WEIGHTS}),
    "class weights": (mlp, lambda: {"x": X, "y": Y, "class_weight": {0: 0.5, 1: 2.0}}),
    "class weights in tf.data": (mlp, lambda: {"x": dataset(), "class_weight": {0: 0.5, 1: 2.0, 2: 1.0}}),
    "class weights in a PyDataset": (mlp, lambda: {"x": Batches(), "class_weight": {0: 0.5, 1: 2.0}}),
    "validation split": (mlp, lambda: {"x": X, "y": Y, "validation_split": 0.3}),
    "validation split of tensors": (mlp, lambda: {"x": tf.constant(X), "y": tf.constant(Y), "validation_split": 0.3}),
    "validation split of sparse": (
        mlp,
        lambda: dict(zip("xy", sparse(), strict=True)) | {"validation_split": 0.3},
    ),
    "validation arrays": (mlp, lambda: {"x": X, "y": Y, "validation_data": VALID}),
    "validation batch size": (mlp, lambda: {"x": X, "y": Y, "validation_data": VALID, "validation_batch_size": 2}),
    "validation weights": (mlp, lambda: {"x": X, "y": Y, "validation_data": (*VALID, WEIGHTS[:9])}),
    "validation tf.data": (mlp, lambda: {"x": X, "y": Y, "validation_data": dataset(*VALID)}),
    "validation steps": (mlp, lambda: {"x": X, "y": Y, "validation_data": dataset(*VALID), "validation_steps": 1}),
    "validation PyDataset": (mlp, lambda: {"x": X, "y": Y, "validation_data": Batches(workers=2)}),
    "endless validation": (
        mlp,
        lambda: {"x": X, "y": Y, "validation_data": dataset(*VALID).repeat(), "validation_steps": 3},
    ),
    "every second validation": (
        mlp,
        lambda: {"x": X, "y": Y, "validation_data": VALID, "validation_freq": 2, "epochs": 3},
    ),
    "chosen validations": (
        mlp,
        lambda: {"x": X, "y": Y, "validation_data": VALID, "validation_freq": [1, 3], "epochs": 3},
    ),
    "initial epoch": (mlp, lambda: {"x": X, "y": Y, "initial_epoch": 1, "epochs": 3}),
    "initial epoch, unknown": (mlp, lambda: {"x": unknown(), "initial_epoch": 1, "epochs": 3}),
    "eager": (jobs.make_eager_mlp, lambda: {"x": X, "y": Y, "validation_data": VALID}),
}
