"""ResNet-50 on ImageNet, in the 90 epochs of "ImageNet in 1 Hour".

python -m tfdist.train --recipe=recipes/classification/resnet50_imagenet.py --data_dir=~/tensorflow_datasets

With another --global_batch the learning rate follows. --precision=mixed_bfloat16 is for TPUs and newer GPUs.

Published: 76.1 % (torchvision's ResNet-50 weights V1: 76.130). Goyal et al. 2017, arXiv:1706.02677, section 5.1, whose
recipe this is but for Nesterov's momentum and label smoothing, reach 76.3 % (table 1: error 23.74 ± 0.09, batch 8192).
Measured: not yet on ImageNet; tests/full/recipes.py trains on a folder of its format with generated images.
"""

from tfdist import RunConfig, ScheduleOptions, data

CLASSES, SIZE = 1000, 224
# Of the channels of ImageNet's training images.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_preprocessing():
    """Returns one-hot labels, which label smoothing needs."""
    return data.augment.one_hot(CLASSES)


def make_augmentation():
    """Returns crops of 8 % of the image or more, and flips."""
    crop = data.augment.decode_resized_crop((SIZE, SIZE), flip=True)
    return data.augment.on_images(crop, data.augment.normalise(MEAN, STD))


def make_test_preprocessing():
    """Returns the centre crop."""
    return data.augment.on_images(data.augment.decode_centre_crop((SIZE, SIZE)), data.augment.normalise(MEAN, STD))


def make_loss():
    """Returns the crossentropy with smoothed labels."""
    import keras

    return keras.losses.CategoricalCrossentropy(label_smoothing=0.1)


def recipe():
    """Returns the run."""
    return RunConfig(
        name="resnet50_imagenet",
        model="resnet50",
        model_options={"weight_decay": 1e-4},
        dataset="imagenet2012",
        dataset_options={"encoded": True},
        test_split="validation",
        preprocessing=make_preprocessing,
        augmentation=make_augmentation,
        test_preprocessing=make_test_preprocessing,
        global_batch=4096,
        epochs=90,
        optimizer="sgd",
        optimizer_options={"momentum": 0.9, "nesterov": True},
        learning_rate=1.6,
        base_batch=4096,
        schedule=ScheduleOptions(kind="step", warmup_epochs=5, step_epochs=(30, 60, 80)),
        loss=make_loss,
    )
