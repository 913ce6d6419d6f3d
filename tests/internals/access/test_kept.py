"""What is kept ends with its owner, and is made anew for another version."""

import functools
import gc
import weakref

import keras

from tfdist.internals.access.kept import kept


class Program:
    """What refers to its owner, as compiled functions do."""

    def __init__(self, owner):
        self.owner = owner


def test_a_value_is_made_once_for_each_name_and_version():
    owner, made = keras.Sequential([keras.layers.Dense(1)]), []

    def make():
        made.append(len(made))
        return made[-1]

    assert [kept(owner, "a", make), kept(owner, "a", make), kept(owner, "b", make)] == [0, 0, 1]
    assert [kept(owner, "a", make, version=2), kept(owner, "a", make, version=2)] == [2, 2]
    assert owner.variables == []


def test_a_value_that_refers_to_its_owner_does_not_keep_it_alive():
    owner = keras.Sequential([keras.layers.Dense(1)])
    kept(owner, "program", functools.partial(Program, owner))
    alive = weakref.ref(owner)
    del owner
    gc.unfreeze()
    gc.collect()
    assert alive() is None
