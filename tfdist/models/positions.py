"""Layers that tell an encoder where its tokens are, and that put a class token in front of them."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt


@keras.saving.register_keras_serializable(package="tfdist")
class ClassToken(keras.layers.Layer):
    """Puts a learned token in front of the others: (B, T, D) → (B, T + 1, D). It starts at zero."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the token (1, 1, D)."""
        self.token = self.add_weight(name="token", shape=(1, 1, input_shape[-1]), initializer="zeros")

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns `inputs` with the token in front of each row."""
        tokens = keras.ops.tile(self.token, (keras.ops.shape(inputs)[0], 1, 1))
        return keras.ops.concatenate([tokens, inputs], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns (B, T + 1, D)."""
        rows, tokens, width = input_shape
        return rows, None if tokens is None else tokens + 1, width


@keras.saving.register_keras_serializable(package="tfdist")
class LearnedPositions(keras.layers.Layer):
    """Adds a learned vector to each token (B, T, D).

    Source: Dosovitskiy et al. 2021, arXiv:2010.11929; the standard deviation 0.02 is that of its code.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the vectors (1, T, D)."""
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.positions = self.add_weight(name="positions", shape=(1, *input_shape[1:]), initializer=initializer)

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the sum."""
        return inputs + self.positions

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape


@keras.saving.register_keras_serializable(package="tfdist")
class SinCosPositions(keras.layers.Layer):
    """Adds sines and cosines of a token's place in the image; without parameters.

    Args:
        rows: rows of patches; the tokens (B, T, D) are ordered row by row, so T is a multiple of it.
    """

    def __init__(self, rows: int, **options: Any) -> None:
        super().__init__(**options)
        self.rows = rows

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the sum."""
        _, tokens, width = inputs.shape
        positions = sincos_positions(self.rows, tokens // self.rows, width)
        return inputs + keras.ops.cast(positions, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "rows": self.rows}


def sincos_positions(rows: int, columns: int, width: int) -> npt.NDArray[np.float64]:
    """Returns the vectors (rows * columns, width) of the places in a grid, row by row.

    A quarter of a vector each is the sines of x, the cosines of x, the sines of y and the cosines of y, at frequencies
    from 1 to 1/10,000 in equal ratios. Source: Beyer et al. 2022, arXiv:2205.01580.

    Args:
        rows: the number of values of y.
        columns: the number of values of x.
        width: D, a multiple of 4 from 8.
    """
    frequencies = np.geomspace(1.0, 1e-4, width // 4)
    y, x = (np.outer(place.ravel(), frequencies) for place in np.mgrid[:rows, :columns])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
