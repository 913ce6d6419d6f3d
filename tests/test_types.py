"""What type checkers and editors see of the public API."""

import ast
import importlib
import os
import pathlib

import pytest
from support.processes import REPOSITORY, run_python

SHOWN = """
import tfdist
from tfdist import data, models, optimizers

source: data.Source = data.digits(global_batch=64).map(data.augment.on_images(data.augment.flip()))
rate: float = optimizers.scale_learning_rate(0.1, global_batch=source.global_batch)
steps: int = optimizers.warmup_steps(epochs=5, global_batch=64, rows=source.rows)
model = models.build("cnn", classes=10, input_shape=(8, 8, 1), batch_norm=True)
history = tfdist.fit(model, source, epochs=2, exchange="auto")
cluster = tfdist.read_cluster({})
workers: tuple[str, ...] = cluster.workers if cluster else ()
config: tfdist.RunConfig = tfdist.RunConfig(epochs=3).replace(seed=1)
try:
    tfdist.choose_strategy("mirrored", replicas=2)
except tfdist.TfdistError as error:
    code: int = error.exit_code
"""

# Each line has one mistake.
WRONG = """
import tfdist
from tfdist import data, models, optimizers

tfdist.fit()
tfdist.fit(None, epoch=2)
tfdist.fits(None)
tfdist.fit(None, epochs="two")
tfdist.choose_strategy(replicas="2")
data.from_arrays([1], shufle=True)
data.digits(global_batch="64")
models.build("cnn", classes=10)
models.resnet51(10, (32, 32, 3))
optimizers.scale_learning_rate("0.1", global_batch=64)
tfdist.read_cluster({}).workers
tfdist.RunConfig(epochs="3")
"""


def shown_to_checkers(module):
    """Returns the names that a package imports only for type checkers."""
    tree = ast.parse(pathlib.Path(module.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imported = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return sorted(alias.asname or alias.name for node in imported for alias in node.names)


@pytest.mark.parametrize("name", ["tfdist", "tfdist.data", "tfdist.optimizers"])
def test_type_checkers_see_the_names_that_are_loaded_lazily(name):
    module = importlib.import_module(name)
    assert shown_to_checkers(module) == sorted(module.__all__)


def test_type_checkers_see_every_builder_of_models():
    from tfdist import models

    assert shown_to_checkers(models) == sorted(models.names())


def test_the_package_says_that_it_has_types():
    assert (REPOSITORY / "tfdist" / "py.typed").is_file()


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """Runs mypy on both texts; returns (file name, line) → message."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "shown.py").write_text(SHOWN)
    (folder / "wrong.py").write_text(WRONG)
    # The settings of the package, so that the cache of `make lint` serves here too.
    command = ("-m", "mypy", "--config-file", REPOSITORY / "pyproject.toml", folder / "shown.py", folder / "wrong.py")
    environ = {"MYPYPATH": os.fspath(REPOSITORY)}
    ended = run_python(*command, environ=environ, folder=REPOSITORY, deadline_seconds=300)
    assert ended.err == ""
    lines = [line.split(":", 3) for line in ended.out.splitlines() if ": error:" in line]
    return {(os.path.basename(path), int(number)): message for path, number, _, message in lines}


def test_the_public_api_passes_a_type_checker(complaints):
    assert {place: message for place, message in complaints.items() if place[0] != "wrong.py"} == {}


def test_a_type_checker_finds_each_wrong_call(complaints):
    wrong = [
        number for number, line in enumerate(WRONG.splitlines(), 1) if line and not line.startswith(("import", "from"))
    ]
    assert sorted(number for name, number in complaints if name == "wrong.py") == wrong
