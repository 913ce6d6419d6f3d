"""Mixes each row with the row before it in the global batch, labels too; and one-hot labels for that.

`keras.layers.MixUp` and `CutMix` draw from the place within a replica's batch, and mix its rows alone, so their result
depends on the number of replicas.
"""

from typing import Any

import tensorflow as tf

from tfdist.data.augment import draws
from tfdist.data.augment.checks import check_at_least, check_images, check_probability
from tfdist.data.augment.rectangles import is_inside
from tfdist.data.transforms import Transform, WithPrevious, fixed
from tfdist.internals.access.tracing import as_written
from tfdist.ops import hashing
from tfdist.ops.refusals import refuse_unless
from tfdist.options.checks import is_count
from tfdist.process.errors import UsageError


def one_hot(classes: int, *, smoothing: float = 0.0) -> Transform:
    """Makes a transform of labels 0..classes-1 into float32 (B, classes), for losses such as categorical crossentropy.

    Labels may have a last dimension of 1, and masks (B, H, W) or (B, H, W, 1) become (B, H, W, classes).

    Label smoothing is that of Szegedy et al. 2016 (arXiv:1512.00567), section 7. Give it here for the training split,
    or to the loss, which then smooths the labels of the validation too.

    Args:
        classes: the number of classes.
        smoothing: the share of a label that is spread over all classes.

    Returns:
        A function ((images, labels, ...), row_seeds) → the same with one-hot labels.

    Example:
        ```python
        from tfdist import data
        from tfdist.data import augment

        train = data.digits(global_batch=64).map(augment.one_hot(10, smoothing=0.1))
        ```
    """
    if not is_count(classes):
        raise UsageError(f"one_hot: classes is {classes!r}. Use a whole number from 1.")
    check_probability("one_hot", "smoothing", smoothing)

    @fixed
    @as_written
    def transform(batch: Any, seeds: tf.Tensor) -> Any:
        del seeds  # nothing random here
        images, labels, *rest = _parts("one_hot", batch)
        if not labels.dtype.is_integer:
            raise UsageError(f"one_hot: the labels are {labels.dtype.name} {labels.shape}. Use whole numbers, once.")
        if labels.shape.rank is not None and labels.shape.rank > 1 and labels.shape[-1] == 1:
            labels = labels[..., 0]
        limits = tf.stack([tf.reduce_min(labels), tf.reduce_max(labels)])
        is_known = tf.reduce_all((labels >= 0) & (labels < tf.cast(classes, labels.dtype)))
        message = f"one_hot: there are labels from {{}} to {{}}. Use labels in 0..{classes - 1}, or more classes."
        with tf.control_dependencies([refuse_unless(is_known, tf.strings.format(message, tf.unstack(limits)))]):
            hot = tf.one_hot(labels, classes)
        return (images, hot * (1 - smoothing) + smoothing / classes if smoothing else hot, *rest)

    return transform


def mixup(alpha: float = 0.2, *, probability: float = 1.0) -> Transform:
    """Makes a transform that blends each image and its label with those of the row before.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018 (arXiv:1710.09412): with λ from Beta(α, α), the
    image is λ x + (1 - λ) x' and the label λ y + (1 - λ) y'. Each row has a λ of its own. Weights of rows stay.

    Args:
        alpha: α; 0.2 is the paper's for ImageNet, 1 for CIFAR-10.
        probability: of a row to be mixed at all.

    Returns:
        A transform of (images float (B, H, W, C), labels float (B, K), ...), see `one_hot`.

    Example:
        ```python
        from tfdist import data
        from tfdist.data import augment

        train = data.digits(global_batch=64).map(augment.one_hot(10)).map(augment.mixup(0.2))
        ```
    """
    table = _shares("mixup", alpha, probability)

    @as_written
    def mix(batch: Any, previous: Any, seeds: tf.Tensor) -> Any:
        images, labels, *rest = _mixable("mixup", batch)
        first, second = tf.unstack(hashing.uniforms(seeds, 2, stream=draws.MIXUP), axis=1)
        own = tf.where(first < probability, draws.pick(table, second), 1.0)
        return (_blend(images, previous[0], own), _blend(labels, previous[1], own), *rest)

    return WithPrevious(mix)


def cutmix(alpha: float = 1.0, *, probability: float = 1.0) -> Transform:
    """Makes a transform that pastes a rectangle of the row before into each image, and mixes the labels by area.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019
    (arXiv:1905.04899): with λ from Beta(α, α), the rectangle has sqrt(1 - λ) of each side, its centre is anywhere in
    the image, and what lies outside is cut off. λ of the labels is the share of the image that is left. Each row has a
    λ and a centre of its own. Weights of rows stay.

    Args:
        alpha: α; 1 in the paper.
        probability: of a row to be mixed at all; 0.5 in the paper for CIFAR, 1 for ImageNet.

    Returns:
        A transform of (images float (B, H, W, C), labels float (B, K), ...), see `one_hot`.

    Example:
        ```python
        from tfdist import data
        from tfdist.data import augment

        train = data.digits(global_batch=64).map(augment.one_hot(10)).map(augment.cutmix(probability=0.5))
        ```
    """
    table = _shares("cutmix", alpha, probability)

    @as_written
    def mix(batch: Any, previous: Any, seeds: tf.Tensor) -> Any:
        images, labels, *rest = _mixable("cutmix", batch)
        happens, level, *centre = tf.unstack(hashing.uniforms(seeds, 4, stream=draws.CUTMIX), axis=1)
        lengths, channels = tf.shape(images)[1:3], tf.shape(images)[3]
        whole = tf.cast(lengths, tf.float32)[:, None]
        part = tf.where(happens < probability, tf.sqrt(1 - draws.pick(table, level)), 0.0)
        sides = tf.cast(part * whole, tf.int32)
        begin = tf.cast(tf.stack(centre) * whole, tf.int32) - sides // 2
        begin, end = tf.maximum(begin, 0), tf.minimum(begin + sides, lengths[:, None])
        lines = [tf.reshape(x, [-1, lengths[0], lengths[1] * channels]) for x in (previous[0], images)]
        pasted = tf.reshape(tf.where(is_inside(begin, end, lengths, channels), *lines), tf.shape(images))
        area = tf.cast(tf.reduce_prod(end - begin, axis=0), tf.float32) / tf.reduce_prod(whole)
        return (tf.ensure_shape(pasted, images.shape), _blend(labels, previous[1], 1 - area), *rest)

    return WithPrevious(mix)


def _shares(name: str, alpha: float, probability: float) -> draws.Table:
    """Checks the arguments, and returns the table of λ."""
    check_at_least(name, "alpha", alpha, above=0)
    check_probability(name, "probability", probability)
    return draws.symmetric_beta(alpha)


def _blend(rows: tf.Tensor, others: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """Returns own * rows + (1 - own) * others, for own float32 (B,)."""
    # Two dimensions, because TensorFlow broadcasts slowly over more.
    flat = [tf.reshape(part, [tf.shape(part)[0], tf.reduce_prod(tf.shape(part)[1:])]) for part in (rows, others)]
    own = tf.cast(own, rows.dtype)[:, None]
    return tf.ensure_shape(tf.reshape(own * flat[0] + (1 - own) * flat[1], tf.shape(rows)), rows.shape)


def _mixable(name: str, batch: Any) -> Any:
    """Returns the parts of a batch of images and one-hot labels."""
    images, labels, *rest = _parts(name, batch)
    if labels.shape.rank != 2 or not labels.dtype.is_floating:
        raise UsageError(
            f"{name}: the labels are {labels.dtype.name} {labels.shape}, which cannot be mixed. Map "
            "augment.one_hot(classes) before it, and use a loss such as categorical_crossentropy."
        )
    check_images(name, images)
    return images, labels, *rest


def _parts(name: str, batch: Any) -> Any:
    if not isinstance(batch, tuple) or len(batch) < 2 or not all(isinstance(part, tf.Tensor) for part in batch[:2]):
        raise UsageError(f"{name}: a batch is {tf.nest.map_structure(type, batch)}. Use a tuple (images, labels, ...).")
    return batch
