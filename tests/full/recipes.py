"""Trains recipes on generated data in the format of their own, and writes the table of what came of it.

Usage: python tests/full/recipes.py [--missing] [part of a row's name ...], as in `evidence.measure`; exit
code 1 where a row is not as it should be.
"""

import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

from full import evidence  # noqa: E402
from support import drawings, tfds_folders  # noqa: E402
from support.processes import REPOSITORY, run_python  # noqa: E402

import tfdist.models.dropout  # noqa: E402, F401 - so that Keras knows its layers when it loads a model

COMMAND = "python tests/full/recipes.py"
COLUMNS = ("row", "as it should be", "minutes", "seen")
TITLE = """Recipes on generated data in the format of their own

All rows but "transfer" train 20 steps in float64 and are compared with one undisturbed process on one device: the
largest difference of a weight in `model.keras`. Fashion-MNIST is the real one. "Killed" rows run under `tfdist.launch
--workers=2`, with a checkpoint every 5 steps; worker 1 gets a SIGKILL after step 11, and both go on from step 10. Their
data are prepared by TFDS itself, from generated images: JPEGs of several sizes for ImageNet, of which the recipe is run
with crops of 64 x 64 pixels.

"Transfer" has 32 x 32 drawings of a shape on a texture, in any colours: the recipe's model is trained on ten classes
with 200 images each, which is the backbone; then on eight other pairs of the same shapes and textures with 25 images
each, for 28 steps from the backbone, and for 280 from nothing, and tested on 400 images."""
DEADLINE_SECONDS = 3600
STEPS = 20
# In float64 an equal run differs by rounding alone.
TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: its name.
        check: a function (an empty folder) → (whether it is as it should be, what was seen).
    """

    name: str
    check: Callable[[pathlib.Path], tuple[bool, str]]

    def __str__(self):
        return self.name


def run(row):
    """Runs a row; returns its cells."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        good, seen = row.check(pathlib.Path(name))
    return [row.name, "yes" if good else "NO", f"{(time.monotonic() - began) / 60:.1f}", seen]


def check_cifar10(folder):
    """Trains cifar10_resnet20 on two workers, with a kill."""
    tfds_folders.write_cifar10(folder / "data", rows=80, test_rows=16)
    return check_killed(folder, recipe_path("cifar10_resnet20"), "--global_batch=8")


def check_imagenet(folder):
    """Trains resnet50_imagenet on two workers, with a kill; images of 224 x 224 pixels would take hours in float64."""
    tfds_folders.write_imagenet(folder / "data", rows=40, validation_rows=8)
    smaller = folder / "smaller.py"
    smaller.write_text(
        "import pathlib\n"
        "from tfdist.assembly.recipe_file import import_file\n"
        f"path = pathlib.Path({str(recipe_path('resnet50_imagenet'))!r})\n"
        "def recipe():\n"
        "    module = import_file(path, 'smaller')\n"
        "    module.SIZE = 64\n"
        "    return module.recipe()\n"
    )
    return check_killed(folder, smaller, "--global_batch=8")


def check_killed(folder, recipe, *flags):
    """Compares two workers, of which one is killed, with one undisturbed process."""
    every = (f"--recipe={recipe}", f"--data_dir={folder / 'data'}", "--precision=float64", f"--steps={STEPS}", *flags)
    train("-m", "tfdist.train", *every, "--strategy=one_device", f"--run_dir={folder / 'one'}")
    launch = ("-m", "tfdist.launch", "--workers=2", "--max_restarts=1", "--backoff_seconds=0", "--tee=none")
    save = ("--strategy=multi_worker", "--checkpoint_every_steps=5", f"--run_dir={folder / 'two'}")
    train(*launch, "--chaos=kill:worker=1,step=11", "--", "-m", "tfdist.train", *every, *save)
    starts = json.loads((folder / "two" / "logs" / "launch.json").read_text())
    gap = largest_difference(folder / "one" / "model.keras", folder / "two" / "model.keras")
    kinds = [start["kind"] for start in starts]
    seen = f"starts: {', '.join(kinds)}; largest difference of a weight {gap:.1e}"
    return kinds == ["failure", "done"] and gap < TOLERANCE, seen


def check_replicas(folder):
    """Compares fashion_mnist on two replicas with one device; its data are those of Debian's package."""
    every = (
        "-m",
        "tfdist.train",
        f"--recipe={recipe_path('fashion_mnist')}",
        "--precision=float64",
        f"--steps={STEPS}",
    )
    train(*every, "--strategy=one_device", f"--run_dir={folder / 'one'}")
    train(*every, "--strategy=mirrored", "--replicas=2", f"--run_dir={folder / 'two'}")
    gap = largest_difference(folder / "one" / "model.keras", folder / "two" / "model.keras")
    return gap < TOLERANCE, f"largest difference of a weight {gap:.1e}"


def check_transfer(folder):
    """Trains the recipe from a backbone, and ten times as long from nothing."""
    drawings.write_drawings(folder / "backbone", drawings.BACKBONE, rows=200, test_rows=20)
    drawings.write_drawings(folder / "target", drawings.TARGET, rows=25, test_rows=50)
    whole = folder / "whole.py"
    whole.write_text(
        "import tfdist\n"
        "from tfdist.assembly.recipe_file import load_recipe\n"
        "def recipe():\n"
        f"    return load_recipe({str(recipe_path('transfer'))!r}).replace(start=tfdist.StartOptions())\n"
    )

    def run_one(recipe, data, name, *flags):
        where = (f"--data_dir={folder / data}", f"--run_dir={folder / name}", "--strategy=one_device")
        err = train("-m", "tfdist.train", f"--recipe={recipe}", *where, *flags)
        return err, json.loads((folder / name / "summary.json").read_text())["metrics"]["accuracy"]

    _, of_backbone = run_one(whole, "backbone", "trained", "--epochs=12")
    start = f"--init_from={folder / 'trained'}"
    _, from_nothing = run_one(whole, "target", "from_nothing", "--steps=280")
    err, from_backbone = run_one(recipe_path("transfer"), "target", "from_backbone", start)
    run_one(recipe_path("transfer"), "target", "frozen", start, "--epochs=2", "--schedule=constant")
    frozen, changed = compare_backbones(folder / "trained" / "model.keras", folder / "frozen" / "model.keras")
    named = "probabilities" in err
    seen = (
        f"test accuracy of the backbone {of_backbone:.3f}; from it after 28 steps {from_backbone:.3f}, from nothing "
        f"after 280 steps {from_nothing:.3f}; {frozen} frozen weights bit-identical before they thaw, {changed} "
        f"changed; what did not match is {'' if named else 'not '}named"
    )
    return from_backbone >= from_nothing and not changed and named, seen


def compare_backbones(one, other):
    """Counts the weights outside the head that two saved models share bit for bit, and those that differ."""
    import keras

    pairs = zip(*(keras.saving.load_model(path, compile=False).layers for path in (one, other)), strict=True)
    same = [
        a.numpy().tobytes() == b.numpy().tobytes()
        for ours, theirs in pairs
        if ours.name != "probabilities"
        for a, b in zip(ours.weights, theirs.weights, strict=True)
    ]
    return sum(same), len(same) - sum(same)


def largest_difference(one, other):
    """Returns the largest difference between the weights of two saved models."""
    import keras
    import numpy as np

    pairs = zip(*(keras.saving.load_model(path, compile=False).get_weights() for path in (one, other)), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def recipe_path(name):
    """Returns the file of a recipe."""
    return REPOSITORY / "recipes" / "classification" / f"{name}.py"


def train(*command):
    """Runs a command to its end, which must be good; returns its stderr."""
    ended = run_python(*command, deadline_seconds=DEADLINE_SECONDS)
    if ended.code:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with exit code {ended.code}: {ended.err[-2000:]}")
    return ended.err


ROWS = (
    Row("fashion_mnist, two replicas", check_replicas),
    Row("cifar10_resnet20, two workers, killed", check_cifar10),
    Row("resnet50_imagenet, two workers, killed", check_imagenet),
    Row("transfer, from a backbone and from nothing", check_transfer),
)


def main(arguments):
    """Runs the rows; returns the exit code."""
    page = {"name": "recipes", "title": TITLE, "command": COMMAND, "columns": COLUMNS}
    return evidence.measure(ROWS, run, arguments, **page)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
