"""The states of callbacks come back as they were, and what cannot be saved is named."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.process.errors import UsageError
from tfdist.resume import callback_state

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]


class Keeping(keras.callbacks.Callback):
    """Keeps a state, and variables in a list and in a copy of a model."""

    def __init__(self, state=None, start=0.0, size=2):
        super().__init__()
        self.state = state
        self.copy = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
        self.more = {"a": [tf.Variable(np.full(size, start))]}

    def get_state(self):
        return self.state

    def set_state(self, state):
        self.state = state


def restored(state):
    items, arrays = callback_state.collect([Keeping(state)])
    other = Keeping()
    callback_state.restore([other], items, read(arrays))
    return other.state


def read(arrays):
    return {name: np.asarray(array) for name, array in arrays.items()}


@pytest.mark.parametrize(
    "state",
    [
        {"seen": {3, 1, 2}, "empty": set(), "pairs": {(1, "a"), (2, "b")}},
        {"by_epoch": {1: 0.5, 2: 0.25}, "nested": {"deep": [{7: {"x"}}]}},
        {"text": "a", "flag": True, "nothing": None},
    ],
)
def test_sets_and_dicts_with_any_keys_come_back(state):
    assert restored(state) == state


def test_what_cannot_be_saved_is_named_with_its_place():
    with pytest.raises(UsageError) as error:
        callback_state.check([Keeping({"list": [1, object]})])
    assert str(error.value).startswith("callback Keeping of None #0: get_state()['list'][1] is <class 'object'>, which")


def test_a_callback_that_has_no_state_before_the_first_step_is_left_alone():
    class Late(Keeping):
        def get_state(self):
            return {"losses": self.losses}

    callback_state.check([Late()])


def test_the_variables_of_a_callback_come_back_but_not_those_of_the_model():
    mine, other = Keeping(start=5.0), Keeping()
    mine.copy.weights[0].assign(np.full((3, 1), 7.0))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    mine.main = other.main = model
    items, arrays = callback_state.collect([mine], known=model.variables)
    assert len(items[0]["variables"]) == 3
    callback_state.restore([other], items, read(arrays), known=model.variables)
    np.testing.assert_array_equal(other.more["a"][0], [5.0, 5.0])
    np.testing.assert_array_equal(other.copy.weights[0], np.full((3, 1), 7.0))


def test_variables_of_other_shapes_are_not_restored_and_named(caplog):
    items, arrays = callback_state.collect([Keeping(start=5.0)])
    other = Keeping(size=3)
    callback_state.restore([other], items, read(arrays))
    np.testing.assert_array_equal(other.more["a"][0], np.zeros(3))
    assert "callback Keeping of None #0: the checkpoint holds 3 variables of it, and it has 3 now, or of" in caplog.text
