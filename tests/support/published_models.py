"""The sizes of models as others publish them, on the images of `tfdist.models.catalog`."""

import dataclasses

HE = "He et al. 2015, arXiv:1512.03385, table 6"
# Each weight's own page below this one; `_ops` in torchvision's sources has a third decimal.
TORCHVISION = "pytorch.org/vision/stable/models.html, num_params and GFLOPS"
TIMM = "huggingface.co/timm: deit_tiny_patch16_224.fb_in1k, deit_small_patch16_224.fb_in1k"


@dataclasses.dataclass(frozen=True)
class Published:
    """A model's size.

    Attributes:
        parameters: trainable parameters; text where they are published rounded, in millions.
        multiply_adds: multiply-adds of a prediction in 10⁹, as text; None where the source has none.
        source: where that stands.
    """

    parameters: int | str
    multiply_adds: str | None
    source: str


PUBLISHED = {
    "resnet20": Published("0.27", None, HE),
    "resnet32": Published("0.46", None, HE),
    "resnet44": Published("0.66", None, HE),
    "resnet56": Published("0.85", None, HE),
    "resnet110": Published("1.7", None, HE),
    "resnet18": Published(11_689_512, "1.81", TORCHVISION),
    "resnet34": Published(21_797_672, "3.66", TORCHVISION),
    "resnet50": Published(25_557_032, "4.09", TORCHVISION),
    "resnet101": Published(44_549_160, "7.80", TORCHVISION),
    "resnet152": Published(60_192_808, "11.51", TORCHVISION),
    "vgg16": Published(138_357_544, "15.47", TORCHVISION),
    "mobilenet_v2": Published(3_504_872, "0.30", TORCHVISION),
    "efficientnet_b0": Published(5_288_548, "0.39", TORCHVISION),
    "vit_ti16": Published("5.7", "1.3", TIMM),
    "vit_s16": Published("22.1", "4.6", TIMM),
    "vit_b16": Published(86_567_656, "17.56", TORCHVISION),
}


def agrees(measured, published, unit):
    """Returns whether a number is the published one: exactly, or where that is text, rounded like it in `unit`."""
    if isinstance(published, int):
        return measured == published
    decimals = len(published.partition(".")[2])
    return f"{measured / unit:.{decimals}f}" == published
