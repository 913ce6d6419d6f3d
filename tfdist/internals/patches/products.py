"""Reports Keras' products with a weight to a listener, which can take the factors of the weight's gradient."""

import contextvars

import keras
import tensorflow as tf
from keras.src import ops

from tfdist.internals.access.replica import swapped

# Each replica is traced in a thread of its own, and a thread has a context of its own.
_LISTENER: contextvars.ContextVar = contextvars.ContextVar("the listener of this replica", default=None)
_matmul, _einsum, _regularizer = ops.matmul, ops.einsum, keras.Variable.regularizer


def audible():
    """Reports the products and the regularizers of weights to listeners; enter it around `strategy.run`."""
    return swapped(
        (ops, "matmul", _reported_matmul),
        (ops, "einsum", _reported_einsum),
        (keras.Variable, "regularizer", property(_reported_regularizer, _regularizer.fset)),
    )


def listen(listener):
    """Sets the listener to which this replica reports from now on.

    Args:
        listener: None, or an object with `product(variable, x, form)` and `regularizer(variable, function)`. The first
            returns the product, or None where Keras is to compute it; the second returns the function to call instead.
    """
    _LISTENER.set(listener)


class ProductForm:
    """A product of x and a weight, described as a product of matrices.

    Attributes:
        contracted: the number of the weight's first dimensions that are summed over.
        multiply: a function (x, kernel) → y.
        back: a function (dy, kernel) → dx.
    """

    def __init__(self, contracted, multiply, back):
        self.contracted = contracted
        self.multiply = multiply
        self.back = back


def _reported_matmul(x1, x2):
    listener = _LISTENER.get()
    if listener is not None and _is_weight(x2) and len(x2.shape) == 2 and _is_dense(x1):
        y = listener.product(x2, x1, ProductForm(1, _matmul, lambda dy, kernel: _matmul(dy, tf.transpose(kernel))))
        if y is not None:
            return y
    return _matmul(x1, x2)


def _reported_einsum(subscripts, *operands, **options):
    listener = _LISTENER.get()
    if (
        listener is not None
        and len(operands) == 2
        and not options
        and _is_weight(operands[1])
        and _is_dense(operands[0])
    ):
        form = _form_of(subscripts, operands[0].shape.rank)
        y = listener.product(operands[1], operands[0], form) if form else None
        if y is not None:
            return y
    return _einsum(subscripts, *operands, **options)


def _reported_regularizer(variable):
    function = _regularizer.fget(variable)
    listener = _LISTENER.get()
    return function if listener is None or function is None else listener.regularizer(variable, function)


def _is_weight(value):
    return isinstance(value, keras.Variable) and value.trainable


def _is_dense(value):
    return isinstance(value, tf.Tensor) and value.shape.rank is not None and value.shape.rank >= 2


def _form_of(subscripts, rank):
    """Returns the `ProductForm` of an equation such as "abc,cde->abde"; None where it is no product of two matrices.

    It is such a product where x is (rows..., contracted...), the weight (contracted..., outputs...), and the product
    (rows..., outputs...), in these orders.
    """
    equation = subscripts.replace(" ", "")
    if "..." in equation or equation.count("->") != 1 or equation.count(",") != 1:
        return None
    operands, y = equation.split("->")
    x, kernel = operands.split(",")
    contracted = "".join(index for index in kernel if index in x)
    rows, outputs = x[: len(x) - len(contracted)], kernel[len(contracted) :]
    as_matrices = contracted and rows and x == rows + contracted and kernel == contracted + outputs
    if not as_matrices or y != rows + outputs or len(set(rows + kernel)) != len(rows + kernel) or len(x) != rank:
        return None
    return ProductForm(
        len(contracted),
        lambda x_, kernel_: tf.einsum(f"{x},{kernel}->{y}", x_, kernel_),
        lambda dy, kernel_: tf.einsum(f"{y},{kernel}->{x}", dy, kernel_),
    )
