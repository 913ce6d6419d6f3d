"""A picture of some rows with what the model predicts of them, at the end of each epoch."""

import dataclasses
import itertools
import pathlib

import keras
import numpy as np
import tensorflow as tf

from tfdist.callbacks import sheet
from tfdist.callbacks.base import Callback
from tfdist.internals.access import models
from tfdist.internals.access.tracing import compiled
from tfdist.process.errors import UsageError
from tfdist.run import rundir
from tfdist.strategy.replicas import run_on_replicas
from tfdist.strategy.workers import Workers

_IMAGE_RANKS, _CHANNELS = (3, 4), (1, 3)


class PredictionSheet(Callback):
    """Writes images with their true class and the predicted one to `epoch-0001.png`, …: the highest loss first.

    The model is one that classifies images: its outputs are probabilities, or logits, which are then normalized. All
    workers compute the outputs; only the chief draws and writes. Matplotlib is needed: `pip install matplotlib`.

    A sheet is drawn at the end of an epoch's validation, or else of the epoch. Given before
    `keras.callbacks.SwapEMAWeights`, it shows what the averaged weights predict.

    Args:
        folder: where to write.
        source: a tfdist `Source` of (images, labels, …), whose first rows are taken. The images are shown as they are
            before its transforms.
        rows: how many rows.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: `rows` is below 1, or the source or the model is of another kind; the latter when training begins.

    Example:
        ```python
        import tfdist

        test = tfdist.data.digits("test")
        # Given to `tfdist.fit(…, callbacks=[sheet])`.
        sheet = tfdist.callbacks.PredictionSheet("predictions", test, rows=16)
        ```
    """

    every_worker = True

    def __init__(self, folder, source, rows=32):
        super().__init__()
        sheet.check_matplotlib()
        if rows < 1:
            raise UsageError(f"PredictionSheet: rows is {rows!r}. Use a whole number from 1.")
        spec = source.element_spec
        if not isinstance(spec, tuple) or len(spec) < 2 or any(map(keras.tree.is_nested, spec[:2])):
            raise UsageError(
                f"PredictionSheet: the rows of {source.name} are {spec}. Give a source of (images, labels)."
            )
        self._folder = pathlib.Path(folder)
        self._source = source
        self._rows = rows
        self._shown = self._inputs = self._truth = self._outputs = None
        # Of the epoch that has no sheet yet.
        self._epoch = None

    def on_train_begin(self, logs=None):
        """Reads the rows, and checks that the model's outputs can be drawn."""
        if self._inputs is None:
            self._inputs, labels = self._first_rows(self._source)
            self._shown = self._first_rows(dataclasses.replace(self._source, transform=None))[0]
            if not _are_images(self._shown):
                # Such as files that the transform decodes.
                self._shown = self._inputs
            self._truth = _classes_of(labels)
        self._outputs = compiled(self._predict)
        if not _are_images(self._shown):
            raise UsageError(
                f"PredictionSheet: the rows of {self._source.name} have the shape {tuple(np.shape(self._shown)[1:])}. "
                "Give a source of images (H, W), (H, W, 1) or (H, W, 3)."
            )
        self._probabilities()

    def on_epoch_begin(self, epoch, logs=None):
        """Notes that the epoch has no sheet yet."""
        self._epoch = epoch

    def on_test_end(self, logs=None):
        """Draws the sheet, if this is a validation within `fit`."""
        self._draw()

    def on_epoch_end(self, epoch, logs=None):
        """Draws the sheet of an epoch without a validation."""
        self._draw()

    def _draw(self):
        """Computes the outputs of an epoch that has no sheet yet; the chief writes it."""
        if self._epoch is None:
            return
        epoch, self._epoch = self._epoch, None
        probabilities = self._probabilities()
        if not Workers.of(self.model.distribute_strategy).is_chief:
            return
        right = (probabilities.argmax(1) == self._truth).sum()
        names = self._source.class_names or [str(number) for number in range(probabilities.shape[1])]
        count = f"{self._source.name}, epoch {epoch + 1}: {right} of {len(self._truth)} right"
        title = f"{count}. True class → predicted class, the highest loss first."
        rundir.make_folder(self._folder)
        path = self._folder / f"epoch-{epoch + 1:04d}.png"
        with rundir.written_aside(path) as aside:
            sheet.write_sheet(aside, self._shown, probabilities, self._truth, names=names, title=title)

    def _first_rows(self, source):
        """Returns (the first rows' inputs, their labels) as arrays."""
        batches = itertools.islice(source.dataset(), -(-self._rows // source.global_batch))
        parts = [[np.asarray(part) for part in batch[:2]] for batch in batches]
        return [np.concatenate(part)[: self._rows] for part in zip(*parts, strict=True)]

    def _predict(self, inputs):
        # Every replica computes all rows, which are few: so a layer that looks at all rows of a batch has them.
        return run_on_replicas(self.model.distribute_strategy, lambda: models.call(self.model, inputs, training=False))

    def _probabilities(self):
        results = self._outputs(tf.constant(self._inputs))
        outputs = self.model.distribute_strategy.experimental_local_results(results)[0]
        return _probabilities_of(outputs, self._truth)


def _are_images(rows):
    rows = np.asarray(rows)
    is_numeric = rows.dtype != object and np.issubdtype(rows.dtype, np.number)
    return is_numeric and rows.ndim in _IMAGE_RANKS and (rows.ndim == 3 or rows.shape[-1] in _CHANNELS)


def _classes_of(labels):
    """Returns int64 (B,): the class of each row, from numbers (B,) or (B, 1), or from one-hot rows (B, classes)."""
    one_hot = labels.ndim == 2 and labels.shape[1] > 1
    return labels.argmax(1) if one_hot else labels.reshape(len(labels), -1)[:, 0].astype(np.int64)


def _probabilities_of(outputs, truth):
    """Returns the probabilities of all classes, float64 (B, classes).

    Args:
        outputs: the model's: probabilities or logits (B, classes), or those of the second of two classes (B, 1).
        truth: int array (B,).

    Raises:
        ValueError: they are no such outputs, or a label is none of the classes.
    """
    if keras.tree.is_nested(outputs) or len(outputs.shape) != 2:
        shape = keras.tree.map_structure(lambda part: tuple(part.shape), outputs)
        raise UsageError(f"PredictionSheet: the model's outputs have the shape {shape}. Use a model with (B, classes).")
    values = np.asarray(tf.cast(outputs, tf.float64))
    if values.shape[1] == 1:
        inside = ((values >= 0) & (values <= 1)).all()
        second = values if inside else 1 / (1 + np.exp(-values))
        values = np.concatenate([1 - second, second], 1)
    elif (values < 0).any() or np.abs(values.sum(1) - 1).max() > 1e-2:
        powers = np.exp(values - values.max(1, keepdims=True))
        values = powers / powers.sum(1, keepdims=True)
    if truth.min() < 0 or truth.max() >= values.shape[1]:
        raise UsageError(
            f"PredictionSheet: labels from {truth.min()} to {truth.max()}, but the model has {values.shape[1]} classes."
        )
    return values
