"""Which values of images lie in a rectangle of each."""

import tensorflow as tf


def is_inside(begin: tf.Tensor, end: tf.Tensor, lengths: tf.Tensor, channels: tf.Tensor | int) -> tf.Tensor:
    """Returns which values of lines of pixels are in the rectangles.

    Args:
        begin, end: int32 (2, B), the first row and column of each rectangle, and those after its last ones.
        lengths: int32 (2,), height and width of the images.
        channels: values of a pixel.

    Returns:
        bool (B, H, W * C): TensorFlow broadcasts slowly over a dimension as short as the channels.
    """

    def within(side: int, times: tf.Tensor | int) -> tf.Tensor:
        places = tf.range(lengths[side] * times)
        return (places >= begin[side][:, None] * times) & (places < end[side][:, None] * times)

    return within(0, 1)[:, :, None] & within(1, channels)[:, None, :]
