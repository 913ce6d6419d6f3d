"""What is reduced has the shape of its variable, whatever TensorFlow knows of the gradient."""

import keras
import tensorflow as tf

from tfdist.gradients.updates import sum_gradients


def test_a_gradient_of_unknown_size_gets_that_of_its_variable(make_strategy):
    strategy = make_strategy(2)
    with strategy.scope():
        layer = keras.layers.Dense(3)
        layer.build((None, 5, 4))
    shapes = []

    def on_replica(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x))
        gradients = tape.gradient(loss, layer.trainable_variables)
        shapes.append(gradients[0].shape.as_list())
        (kernel, _) = sum_gradients(gradients, layer.trainable_variables)
        shapes.append(kernel.shape.as_list())

    tf.function(lambda x: strategy.run(on_replica, (x,))).get_concrete_function(tf.TensorSpec((None, 5, 4)))
    # The replicas are traced in turns, up to each collective.
    assert shapes == [[None, 3]] * 2 + [[4, 3]] * 2
