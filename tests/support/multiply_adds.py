"""Counts the multiply-adds of a model's prediction of one row, from its traced operations."""

import math

import tensorflow as tf


def count(model):
    """Returns the number of multiply-adds for one row of a model with static shapes.

    As published tables count: convolutions, matrix products and products by `einsum`, attention's included; no
    elementwise operation, normalization, pooling or bias. TensorFlow's own profiler counts no `einsum`, so it would
    miss half of a transformer.
    """
    spec = tf.TensorSpec((1, *model.input_shape[1:]), model.inputs[0].dtype)
    function = tf.function(lambda x: model(x, training=False), autograph=False)
    return sum(map(_of_operation, _operations(function.get_concrete_function(spec).graph)))


def _operations(graph):
    for operation in graph.get_operations():
        yield operation
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            yield from _operations(graph._get_function(operation.get_attr("f").name).graph)


def _of_operation(operation):
    output = operation.outputs[0].shape if operation.outputs else ()
    match operation.type:
        case "Conv2D":
            # A kernel (H, W, C, D): each of the D outputs is a sum over the others.
            return math.prod(output) * math.prod(operation.inputs[1].shape[:3])
        case "DepthwiseConv2dNative":
            return math.prod(output) * math.prod(operation.inputs[1].shape[:2])
        case "MatMul":
            summed = operation.inputs[0].shape[0 if operation.get_attr("transpose_a") else 1]
            return math.prod(output) * summed
        case "BatchMatMulV2":
            summed = operation.inputs[0].shape[-2 if operation.get_attr("adj_x") else -1]
            return math.prod(output) * summed
        case "Einsum":
            labels = operation.get_attr("equation").decode().partition("->")[0].split(",")
            sizes = {}
            for names, tensor in zip(labels, operation.inputs, strict=True):
                sizes.update(zip(names, tensor.shape, strict=True))
            return math.prod(sizes.values())
    return 0
