"""Image models by name.

The names can be read and checked without TensorFlow; Keras is imported by the first model built.

Example:
    ```python
    from tfdist import models

    model = models.build("resnet20", classes=10, input_shape=(32, 32, 3))
    ```
"""

import importlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tfdist.models.catalog import MODELS
from tfdist.process.errors import UsageError
from tfdist.process.nearest import did_you_mean, missing_attribute

if TYPE_CHECKING:
    import keras

    from tfdist.models.classification.applications import efficientnet_b0, mobilenet_v2, vgg16
    from tfdist.models.classification.convnet import cnn
    from tfdist.models.classification.perceptron import mlp
    from tfdist.models.classification.resnet import (
        resnet18,
        resnet20,
        resnet32,
        resnet34,
        resnet44,
        resnet50,
        resnet56,
        resnet101,
        resnet110,
        resnet152,
    )
    from tfdist.models.classification.transformer import vit_b16, vit_s16, vit_ti16

__all__ = [
    "build",
    "check_name",
    "cnn",
    "efficientnet_b0",
    "mlp",
    "mobilenet_v2",
    "names",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
    "vgg16",
    "vit_b16",
    "vit_s16",
    "vit_ti16",
]

_NAMES = tuple(MODELS)


def names() -> tuple[str, ...]:
    """Returns every name that `build` takes. Imports neither TensorFlow nor Keras.

    Example:
        ```python
        from tfdist import models

        assert "resnet20" in models.names()
        ```
    """
    return _NAMES


def check_name(name: str, options: Iterable[str] = ()) -> None:
    """Checks a model's name, and the names of its options. Imports neither TensorFlow nor Keras.

    Args:
        name: One of `names()`.
        options: Names of keyword arguments of the builder of that name.

    Raises:
        ValueError: No model has that name, or it has no such option; the message suggests the nearest name and lists
            all.

    Example:
        ```python
        from tfdist import models

        try:
            models.check_name("resnet51")
        except ValueError as error:
            print(error)  # models: no model is called 'resnet51'. Did you mean 'resnet56'? …
        ```
    """
    if name not in _NAMES:
        hint = did_you_mean(name, _NAMES)
        known = ", ".join(_NAMES)
        raise UsageError(f"models: no model is called {name!r}.{hint} Known: {known}.")
    taken = MODELS[name].options
    for option in options:
        if option not in taken:
            hint = did_you_mean(option, taken)
            raise UsageError(f"models: {name} takes no option {option!r}.{hint} It takes: {', '.join(taken)}.")


def build(name: str, *, classes: int, input_shape: Sequence[int], **options: Any) -> "keras.Model":
    """Builds an uncompiled functional model that classifies.

    Args:
        name: One of `names()`.
        classes: Number of classes, at least 2.
        input_shape: Shape of one row: (H, W, C) for images, channels last.
        **options: The keyword arguments of the builder of that name, and no others.

    Returns:
        A `keras.Model` from (B, *input_shape) to softmax probabilities (B, classes), in float32
        also under a mixed-precision policy (float64 under a float64 policy).

    Raises:
        ValueError: An unknown name or option, or a value the model cannot be built from.

    Example:
        ```python
        import tfdist

        strategy = tfdist.choose_strategy()
        with strategy.scope():
            model = tfdist.models.build("cnn", classes=10, input_shape=(8, 8, 1), batch_norm=True)
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        ```
    """
    check_name(name, options)
    model: keras.Model = _builder(name)(classes, input_shape, **options)
    return model


def _builder(name: str) -> Any:
    """Returns the function that builds the model of that name; imports Keras, and with it TensorFlow."""
    return getattr(importlib.import_module(f"tfdist.models.classification.{MODELS[name].file}"), name)


# With it, type checkers would take every name for a public one.
if not TYPE_CHECKING:

    def __getattr__(name):
        if name in _NAMES:
            return _builder(name)
        raise missing_attribute(__name__, name, __all__)


def __dir__() -> list[str]:
    return sorted(__all__)
