"""Names are suggested that are near, and none where none is."""

import pytest
from support.processes import run_python

import tfdist
from tfdist import data, models, optimizers
from tfdist.process.errors import UsageError
from tfdist.process.nearest import did_you_mean, nearest, with_known_arguments

NAMES = ("one_device", "mirrored", "multi_worker", "tpu", "adam", "sgd")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("mirored", "mirrored"),
        ("Mirrored", "mirrored"),
        ("multi-worker", "multi_worker"),
        ("mir", "mirrored"),
        ("adm", "adam"),
        ("gsd", "sgd"),
        # Two letters of three say little.
        ("gpu", None),
        ("horovod", None),
        ("", None),
        (3, None),
        (None, None),
    ],
)
def test_the_nearest_name_is_found_or_none(word, found):
    assert nearest(word, NAMES) == found
    assert did_you_mean(word, NAMES) == (f" Did you mean {found!r}?" if found else "")


def test_a_name_itself_is_not_suggested():
    assert did_you_mean("adam", NAMES) == ""


@pytest.mark.parametrize(
    ("package", "name", "meant"),
    [
        (tfdist, "fitt", "fit"),
        (data, "from_array", "from_arrays"),
        (models, "resnet51", "resnet56"),
        (optimizers, "Warmup", "WarmUp"),
    ],
    ids=str,
)
def test_a_misspelt_name_of_a_package_gets_the_nearest(package, name, meant):
    with pytest.raises(AttributeError) as error:
        getattr(package, name)
    text = f"module {package.__name__!r} has no attribute {name!r}. Did you mean {meant!r}? Public names: "
    assert str(error.value).startswith(text)


def test_python_adds_no_second_suggestion():
    ended = run_python("-c", "import tfdist; tfdist.fitt", deadline_seconds=60)
    assert "has no attribute 'fitt'. Did you mean 'fit'? Public names: " in ended.err
    assert ended.err.count("Did you mean") == 1 and ended.err.rstrip().endswith("optimizers.")


def test_a_function_refuses_an_argument_that_it_does_not_have():
    @with_known_arguments
    def train(x, *, batch_size=1):
        """Trains."""
        return x * batch_size

    assert (train(2), train(x=2, batch_size=3), train.__doc__) == (2, 6, "Trains.")
    with pytest.raises(
        UsageError, match=r"^tfdist.train: there is no argument 'bach_size'. Did you mean 'batch_size'\?$"
    ):
        train(2, bach_size=3)
    with pytest.raises(UsageError, match=r"^tfdist.train: there is no argument 'global_batch'. Use batch_size.$"):
        train(2, global_batch=3)
    with pytest.raises(UsageError, match=r"^tfdist.train: there is no argument 'z'. See help\(tfdist.train\).$"):
        train(2, z=3)
    # Python's own message names the argument that is missing.
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        train()
