"""The tree of tests mirrors the package: the tests of `tfdist/room/x.py` are in `tests/room/test_x.py`."""

import pytest
from support.order import LONGEST
from support.processes import REPOSITORY

TESTS, HOUSE = REPOSITORY / "tests", REPOSITORY / "tfdist"
# Helpers, and what tries the house as a whole; `benchmarks` mirrors the folder of that name.
OWN = {"support", "chaos", "full", "equivalence", "benchmarks"}
# Folder → the files that are about all of it, beside the one that has its name.
WHOLE = {
    "gradients": {"by_hand"},
    "internals/access": {"private_names"},
    "launch": {"signals"},
    "models": {"models_xla"},
    "strategy": {"devices"},
    "synchronous/step": {"tpu_compile", "traces"},
    "train": {"deterministic_runs", "refusals", "runs"},
    "training": {"batchnorm", "fit", "keras_trainer_tests", "mixed_precision", "multi_worker"},
}
FILES = [path for path in sorted(TESTS.glob("*/**/test_*.py")) if path.relative_to(TESTS).parts[0] not in OWN]
FOLDERS = sorted({str(path.parent.relative_to(TESTS)) for path in FILES})


def about(path):
    """Returns what a file of tests is about: its name without "test_"."""
    return path.stem.removeprefix("test_")


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_of_tests_is_one_of_the_package_and_each_file_is_about_a_module_of_it(folder):
    mirrored = HOUSE / folder
    assert mirrored.is_dir()
    modules = {path.stem for path in mirrored.iterdir()} | {mirrored.name}
    names = {about(path) for path in FILES if str(path.parent.relative_to(TESTS)) == folder}
    assert names - modules == WHOLE.get(folder, set())


def test_the_folders_with_files_about_all_of_them_are_there():
    assert set(WHOLE) <= set(FOLDERS)


def test_the_files_that_start_first_are_there():
    assert [name for name in LONGEST if not (REPOSITORY / name).is_file()] == []
