"""Models whose gradients weigh much: for `python -m tfdist.bench --model=benchmarks.exchange_models:NAME --scale=2`."""

import keras
from keras import layers


def dense():
    """Gives dense layers of 14.7M parameters, for rows of 1024 numbers."""
    hidden = [layers.Dense(2048, activation="relu") for _ in range(4)]
    return keras.Sequential([keras.Input((1024,)), *hidden, layers.Dense(10, activation="softmax")])


def transformer():
    """Gives four blocks of width 512 over 64 tokens, for rows of 64 × 512 numbers."""
    inputs = x = keras.Input((64 * 512,))
    x = layers.Reshape((64, 512))(x)
    for _ in range(4):
        normal = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(8, 64)(normal, normal)
        hidden = layers.Dense(2048, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(512)(hidden)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(x)))
