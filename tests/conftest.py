"""What every test may count on: four logical CPU devices, and no word from TensorFlow."""

import contextlib
import gc
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

# Fixtures that start several worker processes.
STARTING_WORKERS = {"two_workers", "launch", "start"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks the tests whose fixtures start workers, before `-m` selects; puts the files that take longest first."""
    from support.order import place_of

    for item in items:
        if not STARTING_WORKERS.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.multi_worker)
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.fixture(scope="session")
def cpus():
    """Splits the CPU into four logical devices, which stand in for GPUs; returns their names."""
    from tfdist.strategy import hardware

    return hardware.logical_cpus(4)


@pytest.fixture(scope="session", autouse=True)
def _devices(request):
    """Splits the CPU before any test starts TensorFlow's runtime; tests that never load TensorFlow stay quick."""
    if "tensorflow" in sys.modules:
        request.getfixturevalue("cpus")


@pytest.fixture(scope="session")
def make_strategy(cpus):
    """Returns a function (replicas) → a strategy over that many logical CPU devices."""
    import tensorflow as tf

    def make(replicas):
        if replicas == 1:
            return tf.distribute.OneDeviceStrategy(cpus[0])
        return tf.distribute.MirroredStrategy(cpus[:replicas], cross_device_ops=tf.distribute.ReductionToOneDevice())

    return make


@pytest.fixture(scope="session")
def two_workers(tmp_path_factory):
    """Returns a function (job, *arguments) → what a job came to on each of two real workers, which all tests share."""
    from support.worker_group import WorkerGroup

    with contextlib.closing(WorkerGroup(tmp_path_factory.mktemp("workers"))) as group:
        yield group


@pytest.fixture
def float64():
    """Makes Keras work in double precision, where equality is not a matter of rounding."""
    from support.jobs import double_precision

    with double_precision():
        yield


@pytest.fixture(scope="module", autouse=True)
def _settled_heap():
    """Spares what lives already the garbage collector's rounds, which take seconds in so large a process."""
    gc.collect()
    gc.freeze()
