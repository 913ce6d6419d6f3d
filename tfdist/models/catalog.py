"""Every model by name: where its builder is, what it takes, how large it is. Imports neither TensorFlow nor Keras."""

import dataclasses
import functools


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model. Its sizes are those with default options, on the images that it is published for.

    Attributes:
        input_shape: Shape of one row, for the sizes.
        classes: Number of classes, for the sizes.
        file: The file of its builder in `classification`. No file has the name of a builder, because importing such a
            file would put the module where the package has the function.
        options: Names of the builder's options.
        parameters: Trainable parameters.
        multiply_adds: Multiply-adds of the prediction of one row, as published tables count them: of convolutions,
            matrix products and attention; not of biases, normalizations, pools or activations.
    """

    input_shape: tuple[int, ...]
    classes: int
    file: str
    options: tuple[str, ...]
    parameters: int
    multiply_adds: int


_digits = functools.partial(Entry, (28, 28, 1), 10)
_cifar = functools.partial(Entry, (32, 32, 3), 10, "resnet", ("weight_decay",))
_imagenet = functools.partial(Entry, (224, 224, 3), 1000)
_resnet = functools.partial(_imagenet, "resnet", ("weight_decay",))
_vit = functools.partial(_imagenet, "transformer", ("position", "pool", "dropout"))

# The options are compared with the builders' arguments by tests/models/test_models.py. The sizes were measured by
# tests/full/model_sizes.py, because building and tracing all models takes minutes.
MODELS = {
    "mlp": _digits("perceptron", ("hidden", "dropout", "weight_decay"), 101_770, 101_632),
    "cnn": _digits("convnet", ("filters", "dense", "dropout", "batch_norm", "weight_decay"), 693_962, 888_192),
    "resnet20": _cifar(269_722, 40_551_040),
    "resnet32": _cifar(464_154, 68_862_592),
    "resnet44": _cifar(658_586, 97_174_144),
    "resnet56": _cifar(853_018, 125_485_696),
    "resnet110": _cifar(1_727_962, 252_887_680),
    "resnet18": _resnet(11_689_512, 1_814_073_344),
    "resnet34": _resnet(21_797_672, 3_663_761_408),
    "resnet50": _resnet(25_557_032, 4_089_184_256),
    "resnet101": _resnet(44_549_160, 7_801_405_440),
    "resnet152": _resnet(60_192_808, 11_513_626_624),
    "vgg16": _imagenet("applications", ("dense", "dropout"), 138_357_544, 15_470_264_320),
    "mobilenet_v2": _imagenet("applications", ("width", "dropout"), 3_504_872, 300_774_272),
    "efficientnet_b0": _imagenet("applications", ("dropout", "stochastic_depth"), 5_288_548, 385_814_752),
    "vit_ti16": _vit(5_717_416, 1_253_683_200),
    "vit_s16": _vit(22_050_664, 4_598_882_304),
    "vit_b16": _vit(86_567_656, 17_563_828_224),
}
