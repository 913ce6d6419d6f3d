"""Models that the command line of the tests names."""

import keras


def tiny():
    """Returns a model for rows of 4 numbers and 3 classes."""
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))


def broken():
    """Returns no model."""
    raise ValueError("no such weights")
