"""N replicas give what one device gives: the table of cases.py, row by row, against plain Keras on one device."""

import logging
import os

import numpy as np
import pytest
from equivalence.plants import PLANTS, Plant, departure
from equivalence.runner import CASES, distance, moved, run_on_workers, run_plain, run_tfdist

from tfdist.internals.access import replica
from tfdist.internals.patches import optimizers, tapes

# EQUIVALENCE=all in the environment runs every row, also where a part of them is enough for each change.
ALL = os.environ.get("EQUIVALENCE") == "all"
ROWS = list(CASES)
ON_WORKERS = [name for name, case in CASES.items() if case.workers]
# With gradients exchanged by their factors, a part of the rows.
STEP = 1 if ALL else 6
BY_FACTORS, BY_FACTORS_ON_WORKERS = ROWS[::STEP], ON_WORKERS[::STEP]
OPTIMIZERS = [name for name in ROWS if CASES[name].family == "optimizer"]
# The ways to clip and to accumulate of each optimizer, in the order of OPTIMIZERS.
WAYS = 8


def is_tried(name):
    """Returns whether a row is tried: of optimizers times ways, a third, with each optimizer and each way among them.

    EQUIVALENCE.md has all of them, and `tests/full/test_evidence.py` holds it against the table.
    """
    if ALL or name not in OPTIMIZERS:
        return True
    optimizer, way = divmod(OPTIMIZERS.index(name), WAYS)
    return (optimizer + way) % 3 == 0


TRIED = list(filter(is_tried, ROWS))


def parameters(names):
    """Returns pytest parameters whose ids say the promise.

    Every fourth one also runs on the oldest versions, and every 24th one is left to `make test-fast`.
    """
    return [
        pytest.param(
            name,
            id=" ".join(filter(None, [CASES[name].promise, name])),
            marks=[*([pytest.mark.core] if number % 4 == 0 else []), *([pytest.mark.slow] if number % 24 else [])],
        )
        for number, name in enumerate(names)
    ]


# Keras warns of what the rows do on purpose.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Gradients do not exist:UserWarning",
    "ignore:.*gradients? .*idle:UserWarning",
    "ignore:Converting sparse IndexedSlices:UserWarning",
    "ignore:.*ran out of data:UserWarning",
)


@pytest.fixture(scope="module")
def strategies(cpus):
    import tensorflow as tf

    reduction = tf.distribute.ReductionToOneDevice
    return {n: tf.distribute.MirroredStrategy(cpus[:n], cross_device_ops=reduction()) for n in (2, 3, 4)}


def test_the_table_is_long_enough():
    assert len(ROWS) >= 150
    assert len(ON_WORKERS) >= 50


def test_each_optimizer_and_each_way_to_clip_and_accumulate_is_tried():
    def first_and_rest(names):
        parts = [name.removeprefix("optimizer: ").partition(" + ") for name in names if name in OPTIMIZERS]
        return {optimizer for optimizer, _, _ in parts}, {way for _, _, way in parts}

    tried, whole = first_and_rest(TRIED), first_and_rest(OPTIMIZERS)
    assert tried == whole
    assert len(OPTIMIZERS) == len(whole[0]) * len(whole[1]) == len(whole[0]) * WAYS
    assert {CASES[name].replicas for name in TRIED if name in OPTIMIZERS} == {2, 3, 4}


@pytest.mark.parametrize("name", parameters(TRIED))
def test_replicas_give_what_one_device_gives(strategies, name, caplog):
    case = CASES[name]
    caplog.set_level(logging.INFO)
    assert moved(name) > 1e-2, "a row that hardly trains shows nothing"
    assert distance(name, run_tfdist(name, strategies[case.replicas])) < case.tolerance
    assert "combines rows" not in caplog.text, "what is exact is not named"


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_FACTORS)
def test_factors_give_what_one_device_gives(strategies, name):
    case = CASES[name]
    assert distance(name, run_tfdist(name, strategies[case.replicas], exchange="factors")) < case.tolerance


@pytest.mark.parametrize("name", ON_WORKERS)
def test_two_workers_give_what_one_device_gives(two_workers, name):
    for done in two_workers(run_on_workers, name, "auto"):
        assert distance(name, done.value) < CASES[name].tolerance


@pytest.mark.parametrize("name", BY_FACTORS_ON_WORKERS)
def test_two_workers_that_exchange_factors_give_what_one_device_gives(two_workers, name):
    for done in two_workers(run_on_workers, name, "factors"):
        assert distance(name, done.value) < CASES[name].tolerance


# Each fault, planted, is to be found in these rows by ten times the tolerance.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["batch: 5 rows", "loss: sample_weight", "float32, batch: 5 rows"])
def test_a_mean_over_each_replica_would_be_found(strategies, monkeypatch, name):
    import tensorflow as tf

    replicas = CASES[name].replicas
    monkeypatch.setattr(replica.Rows, "share", lambda self, dtype: tf.constant(1 / replicas, dtype))
    _, planted, _ = run_tfdist(name, strategies[replicas])
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_clipping_before_the_reduction_would_be_found(strategies, monkeypatch, clip):
    import keras

    from tfdist.synchronous.exchange import exchange

    name = f"optimizer: SGD + {clip}"
    reduce = exchange.sum_gradients
    clipper = keras.optimizers.SGD(**{clip: {"clipnorm": 0.1, "global_clipnorm": 0.1, "clipvalue": 0.02}[clip]})
    monkeypatch.setattr(exchange, "sum_gradients", lambda mine, *more, **wire: reduce(clipper._clip_gradients(mine)))
    _, planted, _ = run_tfdist(name, strategies[CASES[name].replicas])
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


@pytest.mark.slow
def test_updating_without_the_other_replicas_would_be_found(strategies, monkeypatch):
    from tfdist.synchronous.exchange import exchange

    name = "optimizer: SGD + accumulation"
    monkeypatch.setattr(exchange, "sum_gradients", lambda gradients, *more, **wire: gradients)
    with pytest.raises(RuntimeError, match="weights: replica 1 differs from replica 0"):
        run_tfdist(name, strategies[CASES[name].replicas])


@pytest.mark.slow
def test_a_branch_forgotten_would_be_found(strategies, monkeypatch):
    import tensorflow as tf

    name = "optimizer option: ema_overwrite_frequency"
    monkeypatch.setattr(optimizers, "overwrite_is_due", lambda optimizer: tf.constant(False))
    _, planted, _ = run_tfdist(name, strategies[CASES[name].replicas])
    assert np.abs(planted - run_plain(name)[1]).max() > 10 * CASES[name].tolerance


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "model: train step set on the model",
        "layer: BatchNormalization + add_loss",
        "own step: train step of a tutorial, 8 rows",
        "own step: an optimizer not built",
        "own step: noise on the gradients",
        "own step: learning rate from a mean of rows",
        "own loss: mean squared error of each row",
        "own step: sum of the rows' losses",
        "own step: Keras' loss over the weights",
        "own step: clipped gradients",
        "coupled: a layer with gather_rows",
        "coupled: add_loss",
    ],
)
def test_a_piece_of_code_that_is_taken_out_would_be_found(strategies, name):
    plant = next(plant for plant in PLANTS if plant.fits(name))
    with plant.planted():
        _, times = departure(name, strategies[CASES[name].replicas])
    assert times >= 10


def test_each_piece_of_code_that_is_taken_out_is_there():
    for plant in PLANTS:
        places = [(owner, attribute) for owner, attribute, _ in plant.replacements]
        originals = [getattr(*place) for place in places]
        with plant.planted():
            assert [getattr(*place) for place in places] == [replacement for _, _, replacement in plant.replacements]
        assert [getattr(*place) for place in places] == originals
        assert all(getattr(owner, attribute) is not new for owner, attribute, new in plant.replacements)


def test_a_piece_of_code_that_has_moved_is_an_error():
    with (
        pytest.raises(AttributeError, match="does not have the attribute 'gone'"),
        Plant("a", (), ((tapes, "gone", 1),)).planted(),
    ):
        pass
