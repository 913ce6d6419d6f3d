"""Draws images with their true and their predicted classes."""

import importlib.util
import math

import numpy as np

from tfdist.process.errors import MissingPackageError

_COLUMNS = 8
# Inches of one image with its two lines of text.
_WIDTH, _HEIGHT = 1.5, 1.85
_RIGHT, _WRONG = "#1a7f37", "#cf222e"
_LETTERS = 18


def check_matplotlib():
    """Raises `MissingPackageError` where matplotlib, which draws the sheet, is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackageError("a sheet of predictions is drawn by matplotlib. Install it: pip install matplotlib.")


def losses(probabilities, truth):
    """Returns the loss of each row, float64 (B,): minus the logarithm of the probability of its true class.

    Args:
        probabilities: array (B, classes), each row with the sum 1.
        truth: int array (B,), the true class of each row.
    """
    chosen = np.asarray(probabilities, np.float64)[np.arange(len(truth)), truth]
    return -np.log(np.maximum(chosen, np.finfo(np.float64).tiny))


def write_sheet(path, images, probabilities, truth, *, names, title):
    """Writes a picture of the rows, the one with the highest loss first.

    Args:
        path: the file.
        images: array (B, H, W) or (B, H, W, C), C in {1, 3}: 0..255 if it is uint8, else scaled from its least to its
            greatest value.
        probabilities, truth: as for `losses`.
        names: the names of the classes.
        title: a line above the images.
    """
    # Not by pyplot, which keeps each figure, and which may want a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.argsort(-losses(probabilities, truth), kind="stable")
    lines = math.ceil(len(order) / _COLUMNS)
    columns = min(_COLUMNS, len(order))
    figure = Figure(figsize=(max(columns, 4) * _WIDTH, lines * _HEIGHT + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    shown = scaled(images)
    for axis in axes:
        axis.set_axis_off()
    for axis, row in zip(axes, order, strict=False):
        guess = int(probabilities[row].argmax())
        axis.imshow(shown[row], cmap="gray", vmin=0, vmax=1)
        text = f"{_short(names[truth[row]])}\n→ {_short(names[guess])} {probabilities[row, guess]:.0%}"
        axis.set_title(text, fontsize=7.5, color=_RIGHT if guess == truth[row] else _WRONG)
    FigureCanvasAgg(figure).print_png(str(path))


def scaled(images):
    """Returns images as floats in 0..1, with one channel left out as matplotlib wants it."""
    floats = np.asarray(images, np.float32)
    if images.dtype == np.uint8:
        floats = floats / 255
    else:
        low, high = floats.min(), floats.max()
        floats = (floats - low) / (high - low) if high > low else np.zeros_like(floats)
    return floats[..., 0] if floats.ndim == 4 and floats.shape[-1] == 1 else floats


def _short(name):
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
