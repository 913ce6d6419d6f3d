"""ResNet-20 on CIFAR-10, as published.

python -m tfdist.train --recipe=recipes/classification/cifar10_resnet20.py --download
python -m tfdist.launch --workers=2 -- -m tfdist.train --recipe=recipes/classification/cifar10_resnet20.py \
    --strategy=multi_worker --data_dir=~/tensorflow_datasets

Published: 91.25 % (He et al. 2015, arXiv:1512.03385, table 6), by 64,000 steps of 128 rows: section 4.2 has the rest.
Measured: not yet on CIFAR-10 itself; tests/full/recipes.py trains on a folder of its format with generated images.
"""

from tfdist import RunConfig, ScheduleOptions, data

# Of the channels of CIFAR-10's training images. The paper subtracts a mean of each pixel instead.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
STEPS_PER_EPOCH = 391


def make_preprocessing():
    """Returns the normalization."""
    return data.augment.on_images(data.augment.normalise(MEAN, STD))


def make_augmentation():
    """Returns flips, and crops after padding by 4 pixels."""
    return data.augment.on_images(data.augment.flip(), data.augment.pad_crop(4))


def recipe():
    """Returns the run: the learning rate falls to a tenth after 32,000 and after 48,000 steps."""
    return RunConfig(
        name="cifar10_resnet20",
        model="resnet20",
        model_options={"weight_decay": 1e-4},
        dataset="cifar10",
        preprocessing=make_preprocessing,
        augmentation=make_augmentation,
        global_batch=128,
        steps=64_000,
        optimizer="sgd",
        optimizer_options={"momentum": 0.9},
        learning_rate=0.1,
        base_batch=128,
        schedule=ScheduleOptions(kind="step", step_epochs=(32_000 / STEPS_PER_EPOCH, 48_000 / STEPS_PER_EPOCH)),
    )
