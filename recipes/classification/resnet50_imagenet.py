"""ResNet-50 on ImageNet, in the 90 epochs of "ImageNet in 1 Hour".

python -m tfdist.train --recipe=recipes/classification/resnet50_imagenet.py --data_dir=~/tensorflow_datasets
    --global_batch=256 and other batches: the learning rate follows. --precision=mixed_bfloat16 for TPUs and GPUs.

Published: 76.1 % (torchvision's ResNet-50 weights V1: 76.130); Goyal et al. 2017, arXiv:1706.02677, section 5.1, whose
recipe this is but for label smoothing, reach 76.3 % with batch 8192 (table 1: error 23.74 ± 0.09).
Measured: not yet on ImageNet; docs/evidence/recipes.md has runs on a folder of its format with generated images.
"""

import keras

from tfdist import RunConfig, ScheduleOptions
from tfdist.data import augment

CLASSES = 1000
# Of the channels of ImageNet's training images.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def recipe(size=224):
    """Returns the run; `size` is the height and the width of the crops."""
    normalise = augment.normalise(MEAN, STD)
    return RunConfig(
        name="resnet50_imagenet",
        model="resnet50",
        model_options={"weight_decay": 1e-4},
        dataset="imagenet2012",
        dataset_options={"encoded": True},
        test_split="validation",
        preprocessing=lambda: augment.one_hot(CLASSES),
        augmentation=lambda: augment.on_images(augment.decode_resized_crop((size, size), flip=True), normalise),
        test_preprocessing=lambda: augment.on_images(augment.decode_centre_crop((size, size)), normalise),
        global_batch=4096,
        epochs=90,
        optimizer="sgd",
        optimizer_options={"momentum": 0.9, "nesterov": True},
        learning_rate=1.6,
        base_batch=4096,
        schedule=ScheduleOptions(kind="step", warmup_epochs=5, step_epochs=(30, 60, 80)),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
    )
