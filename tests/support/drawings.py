"""Folders of generated images for transfer learning: a shape of any colour, place and size on a texture of any colour.

A class is a shape with a texture, so that colours say nothing about it.
"""

import numpy as np
import tensorflow as tf

SIZE = 32
SHAPES = ("disc", "ring", "square", "cross", "triangle")
TEXTURES = ("plain", "lines", "columns", "checks")
# Ten classes of a backbone, and eight others with the same shapes and textures in other pairs.
BACKBONE = (
    *("disc-plain", "disc-lines", "ring-columns", "ring-checks", "square-plain"),
    *("square-columns", "cross-lines", "cross-checks", "triangle-lines", "triangle-columns"),
)
TARGET = (
    *("disc-columns", "disc-checks", "ring-plain", "ring-lines"),
    *("square-lines", "square-checks", "triangle-plain", "triangle-checks"),
)


def write_drawings(folder, classes, rows, *, test_rows, seed=0):
    """Writes PNGs below `folder/train/<class>` and `folder/test/<class>`; returns the folder.

    Args:
        folder: a `pathlib.Path`.
        classes: names of classes, such as those of `BACKBONE`.
        rows, test_rows: images of each class.
        seed: of all draws.
    """
    for split, count in (("train", rows), ("test", test_rows)):
        for name in classes:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                random = np.random.default_rng([seed, split == "test", *name.encode(), number])
                image = tf.io.encode_png(draw(name, random))
                tf.io.write_file(str(folder / split / name / f"{number:04d}.png"), image)
    return folder


def draw(name, random):
    """Returns an image of a class: uint8 (32, 32, 3)."""
    shape, texture = name.split("-")
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.where(_texture(texture, y, x, random)[..., None], _colour(random), _colour(random))
    inside = _shape(shape, y, x, random)[..., None]
    image = np.where(inside, _colour(random), image) + random.normal(0, 12, (SIZE, SIZE, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def _colour(random):
    return random.uniform(0, 255, 3)


def _texture(kind, y, x, random):
    period, begin = random.integers(4, 9), random.integers(0, 8, 2)
    lines, columns = (y + begin[0]) % period < period / 2, (x + begin[1]) % period < period / 2
    return {"plain": np.zeros_like(lines), "lines": lines, "columns": columns, "checks": lines ^ columns}[kind]


def _shape(kind, y, x, random):
    radius = random.uniform(6, 10)
    top, left = random.uniform(radius + 1, SIZE - radius - 1, 2)
    y, x = (y - top) / radius, (x - left) / radius
    distance, reach = np.hypot(y, x), np.maximum(abs(y), abs(x))
    return {
        "disc": distance < 1,
        "ring": (distance < 1) & (distance > 0.6),
        "square": reach < 0.85,
        "cross": (reach < 1) & (np.minimum(abs(y), abs(x)) < 0.3),
        "triangle": (y < 0.8) & (y > 2 * abs(x) - 1),
    }[kind]
