"""A description of a model is the same in another process, and names what differs."""

import json

import keras
import numpy as np
import pytest
from support.processes import run_python

from tfdist.process.same_run import Changed, changes, narrowed
from tfdist.resume.description import describe, describe_model

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]


class Unserializable(keras.Model):
    """A model without a config, whose layers are all there is."""

    def __init__(self, function, units=4):
        super().__init__()
        self.hidden = keras.layers.Dense(units, activation=function)

    def call(self, x):
        return self.hidden(x)


class Broken(keras.layers.Layer):
    """A layer whose config cannot be had."""

    def get_config(self):
        raise RuntimeError("no config")

    def call(self, x):
        return x


def double(x):
    return 2 * x


def make(units=4, activation=double, kind="functional"):
    if kind == "subclass":
        model = Unserializable(activation, units)
        model(np.zeros((1, 3)))
        return model
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(units, activation, kernel_initializer=keras.initializers.HeNormal(seed=units))(inputs)
    hidden = keras.layers.RandomContrast(0.1)(hidden[:, None, :, None])
    return keras.Model(inputs, keras.layers.Lambda(lambda x: x)(Broken()(keras.layers.Flatten()(hidden))))


@pytest.mark.parametrize("kind", ["functional", "subclass"])
def test_models_that_are_made_alike_are_described_alike(kind):
    one, other = (json.loads(json.dumps(describe_model(make(kind=kind)))) for _ in range(2))
    assert one == other
    assert "0x" not in json.dumps(one)
    assert "double" in json.dumps(one)


def differing(there, here):
    """Returns every value that differs."""
    return [one for changed in changes(there, here) for one in narrowed(changed)]


def test_a_difference_is_named_by_its_path():
    there, here = (
        {"model": describe_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name)]))}
        for name in ("relu", "tanh")
    )
    assert differing(there, here) == [Changed("model.config.layers.1 dense.activation", "relu", "tanh")]
    here = {"model": describe_model(make(kind="subclass", activation="tanh"))}
    there = {"model": describe_model(make(kind="subclass", activation="relu"))}
    assert differing(there, here) == [Changed("model.layers.0 dense.activation", "relu", "tanh")]


def test_values_of_every_kind_become_json():
    values = {
        "a": np.float32(0.5),
        "b": (1, 2),
        "c": np.ones(3),
        "d": double,
        "e": lambda x: x,
        "f": keras.layers.Dense,
    }
    described = describe(values | {"g": keras.losses.Huber(2.0), "h": b"x", "seed": 3})
    assert json.loads(json.dumps(described)) == described
    assert (described["a"], described["b"], described["d"], described["e"]) == (0.5, [1, 2], "double", "lambda")
    assert described["g"]["delta"] == 2.0
    assert "seed" not in described


@pytest.mark.slow
def test_another_process_describes_the_same_model_alike(tmp_path):
    script = """
import json, keras
from tfdist.resume.description import describe_model
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation=lambda x: x), keras.layers.Dropout(0.1)])
print(json.dumps(describe_model(model), sort_keys=True))
"""
    first = run_python("-c", script, deadline_seconds=60)
    second = run_python("-c", script + "\n# moved\n", deadline_seconds=60)
    assert first.out == second.out != ""
