"""Each recipe trains two steps, on generated data in the format of its own, on one strategy after the other.

Models have one block a stage: the blocks that repeat would be traced for a minute, and are the same code.
"""

import json

import numpy as np
import pytest
from support import drawings, idx_folders, tfds_folders
from support.processes import REPOSITORY
from support.worker_jobs.recipes import train_recipe

from tfdist.models.classification import resnet, transformer
from tfdist.train import command

pytestmark = pytest.mark.slow

RECIPES = {path.stem: path for path in sorted((REPOSITORY / "recipes").glob("*/*.py"))}
MIRRORED = ("--strategy=mirrored", "--replicas=2")
# Recipe → the flags of its dry run: few rows a step where the images are large, and one device where the model is.
DRY = {
    "cifar10_resnet20": ("--strategy=one_device", "--global_batch=8"),
    "digits_cnn": ("--strategy=one_device",),
    "mnist_mirrored": (),
    "resnet50_imagenet": ("--strategy=one_device", "--global_batch=4"),
    "resnet50_synthetic": ("--strategy=one_device", "--replica_batch=2"),
    "transfer": MIRRORED,
    "vit_s16_imagenet": ("--strategy=one_device", "--global_batch=4"),
}
ON_TWO_WORKERS = "fashion_mnist"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Returns recipe → the flag of a folder with generated data of its format."""
    folder = tmp_path_factory.mktemp("data")
    fashion = folder / "fashion-mnist"
    for split, rows in (("train", 300), ("t10k", 30)):
        idx_folders.write_pair(fashion, split, rows=rows, size=(28, 28))
    tfds_folders.write_cifar10(folder, rows=32, test_rows=4)
    tfds_folders.write_mnist(folder, rows=300, test_rows=20)
    tfds_folders.write_imagenet(folder, rows=8, validation_rows=4)
    drawings.write_drawings(folder / "drawings", drawings.TARGET, rows=8, test_rows=2)
    prepared = {
        name: folder for name in ("cifar10_resnet20", "mnist_mirrored", "resnet50_imagenet", "vit_s16_imagenet")
    }
    return prepared | {"fashion_mnist": fashion, "transfer": folder / "drawings"}


@pytest.fixture
def _shallow(monkeypatch):
    """Makes the models of the recipes shallow; their images, widths and options stay."""
    for name, (family, block, blocks) in resnet._NETWORKS.items():
        monkeypatch.setitem(resnet._NETWORKS, name, (family, block, (1,) * len(blocks)))
    for name, (_, width, heads) in transformer._SIZES.items():
        monkeypatch.setitem(transformer._SIZES, name, (1, width, heads))


def test_each_recipe_has_a_dry_run():
    assert sorted([*DRY, ON_TWO_WORKERS]) == list(RECIPES)


@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize("name", DRY)
def test_the_recipe_trains_two_steps_and_saves_its_model(name, folders, tmp_path, cpus):
    data = [f"--data_dir={folders[name]}"] if name in folders else []
    flags = [f"--recipe={RECIPES[name]}", *data, *DRY[name], "--steps=2", f"--run_dir={tmp_path}"]
    assert command.main(flags) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["name"], summary["steps"]) == (name, 2)
    assert summary["replicas"] == (1 if "--strategy=one_device" in DRY[name] else 2)
    assert (tmp_path / "model.keras").stat().st_size > 10_000


def test_two_workers_train_a_recipe_with_augmentation_and_dropout_as_one_process_does(folders, two_workers):
    recipe = (f"--recipe={RECIPES[ON_TWO_WORKERS]}", f"--data_dir={folders[ON_TWO_WORKERS]}")
    flags = (*recipe, "--steps=3", "--global_batch=6")
    alone = train_recipe(None, flags)
    for done in two_workers(train_recipe, flags):
        for ours, theirs in zip(done.value, alone, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-10)
