"""Makes models for `benchmarks.exchange`, and for `tfdist.bench --model=benchmarks.exchange_models:NAME --scale=2`.

Horovod's environment has Keras 2, so this code must mean the same in both versions.
"""

import keras
from keras import applications, layers


def dense():
    """Returns dense layers of 14.7M parameters, for rows of 1024 numbers."""
    hidden = [layers.Dense(2048, activation="relu") for _ in range(4)]
    return keras.Sequential([keras.Input((1024,)), *hidden, layers.Dense(10, activation="softmax")])


def transformer():
    """Returns four blocks of width 512 over 64 tokens, for rows of 64 × 512 numbers."""
    inputs = x = keras.Input((64 * 512,))
    x = layers.Reshape((64, 512))(x)
    for _ in range(4):
        normal = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(8, 64)(normal, normal)
        hidden = layers.Dense(2048, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(512)(hidden)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


def vgg16():
    """Returns VGG-16 for images of 64 × 64 pixels: 39.9M parameters."""
    return applications.VGG16(weights=None, classes=10, input_shape=(64, 64, 3))


def resnet50():
    """Returns ResNet-50 for images of 64 × 64 pixels: 23.6M parameters."""
    return applications.ResNet50(weights=None, classes=10, input_shape=(64, 64, 3))


def mobilenet():
    """Returns MobileNetV2 for images of 96 × 96 pixels: 2.3M parameters."""
    return applications.MobileNetV2(weights=None, classes=10, input_shape=(96, 96, 3))
