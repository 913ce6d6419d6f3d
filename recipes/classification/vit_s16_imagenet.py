"""ViT-S/16 on ImageNet, by the recipe of "Better plain ViT baselines for ImageNet-1k".

python -m tfdist.train --recipe=recipes/classification/vit_s16_imagenet.py --data_dir=~/tensorflow_datasets

Published: 76.5 % in 90 epochs of batch 1024 (Beyer et al. 2022, arXiv:2205.01580).
Different here: no RandAugment (theirs has level 10), so expect less; λ of mixup is drawn for each row, not each batch.
Measured: not yet on ImageNet; the tests run it on a folder of its format with generated images.
"""

from tfdist import RunConfig, ScheduleOptions, data

CLASSES, SIZE = 1000, (224, 224)


def make_preprocessing():
    """Returns one-hot labels, which mixup needs."""
    return data.augment.one_hot(CLASSES)


def make_augmentation():
    """Returns crops of 5 % of the image or more, flips, and mixup of whole rows."""
    crop = data.augment.decode_resized_crop(SIZE, area=(0.05, 1.0), flip=True)
    return [data.augment.on_images(crop, data.augment.normalise(0.5, 0.5)), data.augment.mixup(0.2)]


def make_test_preprocessing():
    """Returns the centre crop."""
    return data.augment.on_images(data.augment.decode_centre_crop(SIZE), data.augment.normalise(0.5, 0.5))


def recipe():
    """Returns the run. Their weight decay of 1e-4 is not multiplied by the learning rate, but AdamW's 0.1 is."""
    return RunConfig(
        name="vit_s16_imagenet",
        model="vit_s16",
        model_options={"position": "sincos", "pool": "average"},
        dataset="imagenet2012",
        dataset_options={"encoded": True},
        test_split="validation",
        preprocessing=make_preprocessing,
        augmentation=make_augmentation,
        test_preprocessing=make_test_preprocessing,
        global_batch=1024,
        epochs=90,
        optimizer="adamw",
        optimizer_options={"weight_decay": 0.1, "global_clipnorm": 1.0},
        learning_rate=1e-3,
        base_batch=1024,
        schedule=ScheduleOptions(kind="cosine", warmup_epochs=8),
        loss="categorical_crossentropy",
    )
