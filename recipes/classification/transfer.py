"""A folder of images of your own, from trained weights: first the new head alone, then all layers.

python -m tfdist.train --recipe=recipes/classification/transfer.py --data_dir=FOLDER --init_from=runs/cifar10_resnet20-1

FOLDER has train/CLASS/*.jpg and test/CLASS/*.jpg (or PNG). --init_from takes a run's folder or a .keras file of the
same model with any number of classes; the weights that do not match, those of the head, are listed. For photographs
train `resnet50_imagenet` first, and change model and image_size here.

Published: none, because the images are yours.
Measured: not yet; the tests run it on generated drawings.
"""

from tfdist import RunConfig, ScheduleOptions, StartOptions, data


def make_augmentation():
    """Returns flips."""
    return data.augment.on_images(data.augment.flip())


def recipe():
    """Returns the run; the layers of the backbone are frozen for two epochs."""
    return RunConfig(
        name="transfer",
        model="resnet20",
        dataset="images",
        dataset_options={"image_size": (32, 32), "keep_aspect": True},
        augmentation=make_augmentation,
        global_batch=32,
        epochs=4,
        optimizer="adam",
        learning_rate=3e-3,
        schedule=ScheduleOptions(kind="cosine"),
        start=StartOptions(freeze=("^stem", "^stage"), thaw_epoch=2),
    )
